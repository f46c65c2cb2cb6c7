"""Checks of data before a run: every fault is named in one line."""
