"""``python -m attn_mm`` is ``attn-mm``."""

from attn_mm.cli.main import main

if __name__ == "__main__":
    main()
