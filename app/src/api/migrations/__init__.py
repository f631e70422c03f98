"""Migrations, `NNNN_title.py`, numbered upwards; each leaves the previous release working (expand, then contract)."""

from importlib import resources

HEAD = max(entry.name[:4] for entry in (resources.files(__name__) / "versions").iterdir() if entry.name[:4].isdigit())
