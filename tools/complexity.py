"""Count parameters and multiply-adds: ``python tools/complexity.py --help``."""

from attn_mm.papers.complexity import main

if __name__ == "__main__":
    main()
