"""A Flask app as a beginner writes it: one file, no package, no configuration."""

from flask import Flask

app = Flask(__name__)


def home() -> str:
    """Say hello."""
    return "notes"


app.add_url_rule("/", view_func=home)
