"""What runs in a slot, besides the app: in the release's own Python, and a part of the release, so that it stays what it was tried as."""
