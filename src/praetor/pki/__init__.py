"""Certificates as the controller sees them: an authority of its own, and checks of what others have issued."""
