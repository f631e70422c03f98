"""What the service is about. Nothing here knows Flask."""
