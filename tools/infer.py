"""Predict on images and videos: ``python tools/infer.py --help``."""

from attn_mm.engine.infer import main

if __name__ == "__main__":
    main()
