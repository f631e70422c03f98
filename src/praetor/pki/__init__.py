"""Certificates as the controller sees them: the project's own authority, and checks of certificates that others have issued."""
