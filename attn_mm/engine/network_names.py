"""What the networks that an analysis compares are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attn_mm.errors import UserError


def network_names(pairs: Sequence[tuple[str, str]], given: Sequence[str] | None = None) -> list[str]:
    """A name for each network, by which results are told apart.

    Args:
        pairs: config and checkpoint of each.
        given: of ``--names``; None: the configs' names, or, where these repeat, those of the checkpoints'
            folders, or of folders and checkpoints.

    Raises:
        UserError: two networks have the same name, or the names given are not one for each.
    """
    if given:
        if len(given) != len(pairs):
            raise UserError(f"--names gives {len(given)} names, and there are {len(pairs)} networks")
        choices = [list(given)]
    else:
        configs, checkpoints = zip(*pairs)
        folders = [Path(path).resolve().parent.name for path in checkpoints]
        files = [f"{folder}_{Path(path).stem}" for folder, path in zip(folders, checkpoints)]
        choices = [[Path(path).stem for path in configs], folders, files]
    for names in choices:
        if len(set(names)) == len(names):
            return names
    repeated = Counter(choices[-1]).most_common(1)[0][0]
    raise UserError(f"two networks are called {repeated}: give each its own name with --names")
