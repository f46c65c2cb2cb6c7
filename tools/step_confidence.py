"""Evaluate each step of top-down feedback: ``python tools/step_confidence.py --help``."""

from attn_mm.papers.td.step_confidence import main

if __name__ == "__main__":
    main()
