"""Describe the network of a config: ``python tools/describe.py --help``."""

from attn_mm.describe.main import main

if __name__ == "__main__":
    main()
