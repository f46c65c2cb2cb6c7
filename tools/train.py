"""Train a config: ``python tools/train.py --help``."""

from attn_mm.engine.train import main

if __name__ == "__main__":
    main()
