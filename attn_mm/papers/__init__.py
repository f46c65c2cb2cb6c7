"""The parameters and multiply-adds that the papers publish, each with the network that has them.

One file a paper, one :class:`Row` a published network. ``tools/complexity.py
--paper`` builds them all and prints what is published against what is counted.
"""

from __future__ import annotations

from importlib import import_module

from attn_mm.papers.published import Row

PAPERS = ("td", "tdaf", "aw", "ltpa", "tam")


def rows_of(paper: str) -> list[Row]:
    """The rows of one of :data:`PAPERS`, in the order of its tables."""
    return import_module(f"attn_mm.papers.{paper}").ROWS


__all__ = ["PAPERS", "Row", "rows_of"]
