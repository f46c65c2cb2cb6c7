"""Classifiers of mmpretrain; :mod:`attn_mm.models.lazy` registers them."""
