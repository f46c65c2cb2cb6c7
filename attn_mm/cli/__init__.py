"""``attn-mm``: one command for all that the package does, see :mod:`attn_mm.cli.commands`."""
