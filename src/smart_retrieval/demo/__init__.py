"""Demos on test collections that every machine can build: Python's own documentation, and drawn pages."""
