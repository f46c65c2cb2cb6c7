"""Fold a trained network for deployment: ``python tools/fuse.py --help``."""

from attn_mm.deploy.fuse import main

if __name__ == "__main__":
    main()
