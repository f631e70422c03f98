"""What differs behind NGINX; `wagtail start` leaves this file to you."""

import os

# collectstatic runs on the controller, without secrets.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "for collectstatic only")
ALLOWED_HOSTS = ["cms.lab.example"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = True
