"""A visitor counter for portals."""

__version__ = "0.1.0"
