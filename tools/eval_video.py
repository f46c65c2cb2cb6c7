"""Evaluate an action recogniser over clips and videos: ``python tools/eval_video.py --help``."""

from attn_mm.run.eval_video import main

if __name__ == "__main__":
    main()
