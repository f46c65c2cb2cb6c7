"""Analyse the gates of a network: ``python tools/gates.py --help``."""

from attn_mm.papers.tam.gates import main

if __name__ == "__main__":
    main()
