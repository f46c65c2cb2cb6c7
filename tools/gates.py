"""What the gates of a network do: ``python tools/gates.py --help``."""

from attn_mm.papers.tam.gates import main

if __name__ == "__main__":
    main()
