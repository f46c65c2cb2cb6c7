"""Helpers shared by the layers: dimensions, channels, precision, sync norms, tracing and shortcuts."""
