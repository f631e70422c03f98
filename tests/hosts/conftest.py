"""Fixtures and options of the host tests are in `tests/support/hosts.py`; the scenarios share them."""

pytest_plugins = ["hosts"]
