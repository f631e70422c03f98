"""Praetor: Flask apps in production on plain Debian hosts. A folder says where its code runs: `host` on hosts, all others on the controller."""
