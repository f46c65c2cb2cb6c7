"""Show what a network attends to, in a browser: ``python tools/explore.py --help``."""

from attn_mm.explorer.explore import main

if __name__ == "__main__":
    main()
