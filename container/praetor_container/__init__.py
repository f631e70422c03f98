"""The first process of an app's image, and its commands. Standard library only: it runs on the base image's Python."""
