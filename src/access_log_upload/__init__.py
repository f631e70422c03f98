"""Sends NGINX's access logs to a monitoring host."""
