"""Pose estimators of mmpose."""
