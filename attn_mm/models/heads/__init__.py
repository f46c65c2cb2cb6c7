"""Heads of the frameworks with attention; :mod:`attn_mm.models.lazy` registers them."""
