"""Which published networks test_counts.py builds and counts: the others are test_every_config's."""

from __future__ import annotations

import os

from attn_mm.papers import Row
from attn_mm.papers.metafile import Entry

DEEP = ("R101", "R152", "RX101")


def counts(row: Row) -> bool:
    """Whether ``row`` is counted in every run: the others are the same networks, deeper or of 10 classes."""
    again = any(name in row.network for name in DEEP) or row.where == "TAM, table 2"
    return "ATTN_MM_WHOLE_MATRIX" in os.environ or not again


def is_as_it_is(row: Row, entry: Entry) -> bool:
    """Whether ``row`` has the parameters of the entry's config, all of them and without other options."""
    plain = not row.options and not row.constants and row.minus is None
    return plain and row.params is not None and row.config == entry.config


def is_counted(entry: Entry) -> bool:
    """Whether a published network is that of the entry's config: test_counts builds it."""
    return any(is_as_it_is(row, entry) and counts(row) for row in entry.rows)
