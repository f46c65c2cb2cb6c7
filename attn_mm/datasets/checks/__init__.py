"""Checks of a data set before and during a run; every fault is reported in one line."""
