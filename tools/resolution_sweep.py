"""Test classifiers at several resolutions: ``python tools/resolution_sweep.py --help``."""

from attn_mm.papers.td.resolution_sweep import main

if __name__ == "__main__":
    main()
