"""Fold a trained network's batch norms for deployment: ``python tools/fuse.py --help``."""

from attn_mm.deploy.fuse import main

if __name__ == "__main__":
    main()
