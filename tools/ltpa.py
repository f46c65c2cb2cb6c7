"""Repeat the analyses of "Learn to pay attention": ``python tools/ltpa.py --help``."""

from attn_mm.papers.ltpa.main import main

if __name__ == "__main__":
    main()
