"""Evaluate a checkpoint: ``python tools/test.py --help``."""

from attn_mm.run.test import main

if __name__ == "__main__":
    main()
