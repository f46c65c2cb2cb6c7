"""The papers' published figures, their comparison with counts made here, and the papers' analyses.

A paper is a folder of ``configs/`` whose metafile names one; its analyses are a package of the same name.
``attn-mm complexity --paper`` builds every network whose size is published and prints both.
"""

from __future__ import annotations

from attn_mm.papers.metafile import folders, read_metafile
from attn_mm.papers.published import Row


def paper_names() -> list[str]:
    """The folders of ``configs/`` that are a paper's, such as ``'td'``."""
    return [folder for folder in folders() if read_metafile(folder).paper]


def rows_of(paper: str) -> list[Row]:
    """What a paper publishes of its networks' sizes, in the order of its tables."""
    return read_metafile(paper).rows()


__all__ = ["Row", "paper_names", "rows_of"]
