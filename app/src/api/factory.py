"""Put the service together."""

from importlib.metadata import version

from flask import Flask, Response

from api import logs, metrics, problems
from api.config import Loaded
from api.database import Database
from api.edge import Edge
from api.lean import Lean
from api.routes import docs, health, items, reports
from api.services import Services

ROUTES = (health.routes, items.routes, reports.routes)


def create_app(loaded: Loaded) -> Flask:
    """The service with the given configuration. Opens no connection: that is for after uWSGI's fork."""
    settings, identity = loaded.settings, loaded.identity
    logs.configure(settings.log.level, app=identity.name, release=identity.release)
    app = Lean("api", static_folder=None)
    app.debug = settings.debug
    app.config["MAX_CONTENT_LENGTH"] = settings.http.max_body_bytes
    app.extensions["api"] = Services(
        settings=settings,
        identity=identity,
        database=Database(settings.database, identity.data_dir, settings.http.deadline_s),
    )
    problems.register(app)
    for routes in ROUTES:
        routes.register(app)
    if settings.http.docs:
        docs.register(app, [operation for routes in ROUTES for operation in routes.operations])
    if settings.http.metrics:
        app.add_url_rule("/metrics", "metrics", lambda: Response(metrics.text(), mimetype="text/plain"))
    metrics.build(identity, version("api"), settings.profile)
    app.wsgi_app = Edge(app.wsgi_app, settings.http.deadline_s, metrics.observe)  # type: ignore[method-assign]
    return app
