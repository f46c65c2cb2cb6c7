"""Train the ablation study of top-down feedback: ``python tools/ablate.py --help``."""

from attn_mm.papers.td.ablate import main

if __name__ == "__main__":
    main()
