"""The published figures of the configs, from their metafiles."""

from __future__ import annotations

from attn_mm.papers.metafile import folders, read_metafile
from attn_mm.papers.published import Row

ENTRIES = {
    entry.config.removeprefix("configs/").removesuffix(".py"): entry
    for folder in folders()
    for entry in read_metafile(folder).entries
}
"""By name, from the folder on: ``'td/r50_plain_125e_in1k'``."""


def parameters_of(name: str) -> int:
    """The parameters of a config, as its metafile says."""
    return ENTRIES[name].parameters


def row_of(name: str, where: str) -> Row:
    """What a table publishes of a config's size."""
    (row,) = (row for row in ENTRIES[name].rows if row.where == where)
    return row
