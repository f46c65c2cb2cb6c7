"""Backbones that the papers use and no framework has."""
