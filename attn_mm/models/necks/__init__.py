"""Necks with attention."""
