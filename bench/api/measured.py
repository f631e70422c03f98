"""The reference API with routes that bench/serving.py asks for: nothing of them depends on what was stored before.

bench/serving.py puts this file into a copy of the API's package, next to `api.wsgi`.
"""

from api import factory
from api.model import Integer, Model
from api.typed import Routes
from flask import Response

routes = Routes("measured", prefix="/measured")
MEGABYTE = b"0123456789abcdef" * 65_536


class Content(Model):
    """What a client sends."""

    name: str
    tags: list[str]
    quantity: Integer


class Thing(Content):
    """What it gets back."""

    number: int


@routes.get("/<int:number>")
def read(number: int) -> Thing:
    """Read."""
    return Thing(number=number, name="thing", tags=["a", "b"], quantity=3)


@routes.post("")
def create(body: Content) -> Thing:
    """Create."""
    return Thing(number=1, name=body.name, tags=body.tags, quantity=body.quantity)


factory.ROUTES += (routes,)

from api.wsgi import app  # noqa: E402  the app takes the routes that are there when it is made

app.add_url_rule("/measured/megabyte", "megabyte", lambda: Response(MEGABYTE, mimetype="application/octet-stream"))
