"""Read checkpoints, pickles and YAML without running code from them, and in little memory.

The patches of :mod:`attn_mm.compat` use it in place of ``torch.load``, ``pickle.load`` and ``yaml.load``.
"""
