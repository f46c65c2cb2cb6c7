"""Models, grafts and layers that configs can name; :mod:`attn_mm.models.registered` registers them."""
