"""Predict on images and videos: ``python tools/infer.py --help``."""

from attn_mm.inference.infer import main

if __name__ == "__main__":
    main()
