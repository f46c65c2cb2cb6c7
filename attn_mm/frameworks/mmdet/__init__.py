"""Detectors and instance segmenters of mmdet."""
