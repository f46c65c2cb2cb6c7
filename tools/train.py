"""Train a config: ``python tools/train.py --help``."""

from attn_mm.run.train import main

if __name__ == "__main__":
    main()
