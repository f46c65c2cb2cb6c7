"""Prediction on images and videos from the command line."""
