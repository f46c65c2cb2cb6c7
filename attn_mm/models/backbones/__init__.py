"""Backbones that the papers use and none of the frameworks provides."""
