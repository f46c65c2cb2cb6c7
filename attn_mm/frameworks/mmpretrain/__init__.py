"""Classifiers of mmpretrain."""
