"""Configuration: one frozen model, filled from layers, checked before anything else happens."""

from api.config.layers import ConfigError, Identity, Loaded, Origin, load
from api.config.model import Settings

__all__ = ["ConfigError", "Identity", "Loaded", "Origin", "Settings", "load"]
