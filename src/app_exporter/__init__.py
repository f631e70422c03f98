"""Serves the metrics of every application on a host to Prometheus."""
