r"""Typed routes by library: the same GET and POST, CPU time per request in one uWSGI worker, in turns (see api_cost.py).

Needs a separate environment, which no lock of the project holds:

    uv venv /tmp/libraries && uv pip install --python /tmp/libraries flask-openapi3==4.3.2 apiflask==3.1.2 spectree==3.0.0 \
      pyuwsgi -r app/requirements.txt && uv pip install --python /tmp/libraries --no-deps ./app
    /tmp/libraries/bin/python bench/typed_libraries.py
"""

import statistics
import tempfile
from pathlib import Path

from api_cost import BARE, BODY, Worker

MODELS = """
from pydantic import BaseModel


class Number(BaseModel):
    number: int


class Content(BaseModel):
    name: str
    tags: list[str]
    quantity: int


class Thing(Content):
    number: int


def thing(number):
    return Thing(number=number, name="thing", tags=["a", "b"], quantity=3)
"""

SOURCES = {
    "bare Flask, nothing checked": BARE,
    "own module (typed.py)": """
from flask import Flask

from api import problems
from api.model import Integer, Model
from api.typed import Routes

routes = Routes("things", prefix="/things")


class Content(Model):
    name: str
    tags: list[str]
    quantity: Integer


class Thing(Content):
    number: int


@routes.get("/<int:number>")
def read(number: int) -> Thing:
    return Thing(number=number, name="thing", tags=["a", "b"], quantity=3)


@routes.post("")
def create(body: Content) -> Thing:
    return Thing(number=1, name=body.name, tags=body.tags, quantity=body.quantity)


app = Flask("typed")
problems.register(app)
routes.register(app)
""",
    "flask-openapi3": MODELS
    + """
from flask_openapi3 import OpenAPI

app = OpenAPI("openapi3", validate_response=True)


@app.get("/things/<int:number>", responses={200: Thing})
def read(path: Number):
    return thing(path.number).model_dump()


@app.post("/things", responses={201: Thing})
def create(body: Content):
    return Thing(number=1, **body.model_dump()).model_dump(), 201
""",
    "apiflask": MODELS
    + """
from apiflask import APIFlask

app = APIFlask("apiflask")


@app.get("/things/<int:number>")
@app.output(Thing)
def read(number: int):
    return thing(number)


@app.post("/things")
@app.input(Content)
@app.output(Thing, status_code=201)
def create(json_data: Content):
    return Thing(number=1, **json_data.model_dump())
""",
    "spectree": MODELS
    + """
from flask import Flask, jsonify
from spectree import Response, SpecTree

app = Flask("spectree")
spec = SpecTree("flask", annotations=True)


@app.get("/things/<int:number>")
@spec.validate(resp=Response(HTTP_200=Thing))
def read(number: int):
    return thing(number)


@app.post("/things")
@spec.validate(resp=Response(HTTP_201=Thing))
def create(json: Content):
    return Thing(number=1, **json.model_dump()), 201


spec.register(app)
""",
}


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        apps = {label: Worker(Path(name), f"app{n}", source, {}) for n, (label, source) in enumerate(SOURCES.items())}
        try:
            for app in apps.values():
                app.wait()
            print("| CPU µs per request | GET | POST |\n|---|---|---|")
            found = {label: ([], []) for label in apps}
            for turn in range(rounds + 1):
                for label, app in apps.items():
                    costs = app.cost("GET", "/things/7"), app.cost("POST", "/things", BODY)
                    if turn:
                        for kept, cost in zip(found[label], costs, strict=True):
                            kept.append(cost)
            for label, (gets, posts) in found.items():
                print(f"| {label} | {statistics.median(gets):.0f} | {statistics.median(posts):.0f} |")
        finally:
            for app in apps.values():
                app.stop()


if __name__ == "__main__":
    main(9)
