"""Count the parameters and multiply-adds of networks: ``python tools/complexity.py --help``."""

from attn_mm.papers.complexity import main

if __name__ == "__main__":
    main()
