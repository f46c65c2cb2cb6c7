"""Classifiers based on mmpretrain's; :mod:`attn_mm.models.lazy` registers them."""
