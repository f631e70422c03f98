"""Artifacts: an app and all that it needs as wheels with hashes. Runs on the controller."""
