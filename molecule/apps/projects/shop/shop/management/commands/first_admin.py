"""`createsuperuser` that does nothing where there is one."""

import os

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Makes the first administrator."""

    def handle(self, **_options: object) -> None:
        """Make it."""
        if not User.objects.filter(username="admin").exists():
            User.objects.create_superuser("admin", password=os.environ["DJANGO_SUPERUSER_PASSWORD"])
