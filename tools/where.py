"""Show where attention can go in a network: ``python tools/where.py --help``."""

from attn_mm.describe.where import main

if __name__ == "__main__":
    main()
