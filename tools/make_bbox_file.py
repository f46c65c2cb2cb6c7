"""Detect persons for pose configs: ``python tools/make_bbox_file.py --help``."""

from attn_mm.inference.make_bbox_file import main

if __name__ == "__main__":
    main()
