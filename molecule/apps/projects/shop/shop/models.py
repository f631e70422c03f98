"""What the shop sells."""

from django.db import models


class Item(models.Model):
    """A thing with a picture."""

    name = models.CharField(max_length=80)
    picture = models.FileField(upload_to="pictures")

    def __str__(self) -> str:
        """Its name."""
        return self.name
