"""Compare the training curves of runs: ``python tools/plot_curves.py --help``."""

from attn_mm.run.plot_curves import main

if __name__ == "__main__":
    main()
