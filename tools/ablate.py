"""Vary options of a config and compare the networks: ``python tools/ablate.py --help``."""

from attn_mm.papers.ablate import main

if __name__ == "__main__":
    main()
