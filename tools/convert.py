"""Convert a top-down attention checkpoint from its authors' format: ``python tools/convert.py --help``."""

from attn_mm.papers.td.convert import main

if __name__ == "__main__":
    main()
