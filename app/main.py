"""The WSGI callable for `uwsgi --wsgi-file main.py --callable app`."""

from api.wsgi import app

__all__ = ["app"]
