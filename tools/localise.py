"""Localise objects with class activation maps: ``python tools/localise.py --help``."""

from attn_mm.papers.td.localise import main

if __name__ == "__main__":
    main()
