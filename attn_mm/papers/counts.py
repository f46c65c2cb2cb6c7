"""Build the networks whose figures the papers publish, count them, and compare the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from torch import nn

from attn_mm.describe.build import build
from attn_mm.describe.counting import count_parameters, measure, meta_input
from attn_mm.errors import UserError
from attn_mm.papers import Row, rows_of
from attn_mm.papers.published import agreement, relative_error
from attn_mm.utils.config import load_config
from attn_mm.utils.config_names import shipped_config
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table

_LEGEND = """\
Written by `attn-mm complexity --paper`. A figure is met *to the unit* where all of its digits are known,
and *to the digits* where the count rounds to what is published. MACs are multiply-adds of one image of
224x224 pixels, of 32x32 in TAM's tables and AW's table 2. conv: those of convolutions, linear layers and
matrix products; full: conv, 2 for each element of a normalization, 1 for each of a ReLU or pooling. Gi:
units of 2^30, in which TAM counts. *Counted*, and all of LTPA: the paper does not print the figure, it is
what the layers that it describes amount to."""

_MARKS = {"unit": "to the unit", "digits": "to the digits", "differs": "**differs**", None: ""}


@dataclass(frozen=True)
class Count:
    """A published network and what it has here; None where nothing is published."""

    row: Row
    params: int | None
    macs: int | None

    @property
    def params_agreement(self) -> str | None:
        published = self.row.params
        return agreement(self.params, published) if self.params is not None and published else None

    @property
    def macs_agreement(self) -> str | None:
        published = self.row.macs
        return agreement(self.macs, published) if self.macs is not None and published else None

    def record(self) -> dict:
        """The comparison for JSON."""
        row = self.row
        record: dict[str, Any] = dict(where=row.where, network=row.network, note=row.note)
        for name in ("params", "macs"):
            published, ours = getattr(row, name), getattr(self, name)
            if published:
                record[name] = dict(
                    published=published,
                    ours=ours,
                    relative_error=relative_error(ours, published),
                    agreement=agreement(ours, published),
                )
        if row.macs:
            record["macs"].update(convention=row.convention, shape=row.shape)
        return record


def build_row(row: Row) -> nn.Module:
    """The network of ``row``, on the meta device."""
    return build(load_config(shipped_config(row.config), row.options), "meta")


def count_row(row: Row) -> Count:
    """Build and count the network of ``row``."""
    model = build_row(row)
    params = macs = None
    if row.params:
        total = count_parameters(model)
        params = total.params - (total.frozen_affine if row.constants else 0)
        if row.minus is not None:
            params -= count_parameters(build_row(replace(row, config=row.minus))).params
    if row.macs:
        total = measure(model, meta_input(*row.shape), depth=0)[0]
        macs = getattr(total, row.convention)
    return Count(row, params, macs)


def compare(papers: Iterable[str]) -> list[Count]:
    """Count every network of these papers, with a progress bar.

    Raises:
        UserError: a framework that one of them is built with is not installed.
    """
    rows = [row for paper in papers for row in rows_of(paper)]
    missing = sorted(name for name in {row.framework for row in rows} if find_spec(name) is None)
    if missing:
        raise UserError(f"--paper needs {' and '.join(missing)}, which the extras of attn-mm install")
    with progress_bar(transient=True) as progress:
        return [count_row(row) for row in progress.track(rows, description="networks")]


def paper_report(counts: Sequence[Count]) -> str:
    """The comparison as Markdown: a table, how many figures agree, and why the others don't."""
    header = (
        "where",
        "network",
        "published parameters",
        "ours",
        "error",
        "met",
        "published MACs",
        "ours ",
        "error ",
        "met ",
        "note",
    )
    notes: dict[str, int] = {}
    rows = []
    for count in counts:
        row = count.row
        number = notes.setdefault(row.note, len(notes) + 1) if row.note else ""
        rows.append(
            (
                row.where,
                row.network,
                *_cells(row.params, count.params, f"{count.params or 0:,}"),
                _MARKS[count.params_agreement],
                *_cells(row.macs and f"{row.macs} ({row.convention})", count.macs, _giga(count), row.macs),
                _MARKS[count.macs_agreement],
                str(number),
            )
        )
    lines = [
        "# What the papers publish, and what is counted here",
        "",
        _LEGEND,
        "",
        markdown_table(header, rows, (*header[2:5], *header[6:9], "note")),
        "",
        _tally(counts),
    ]
    if notes:
        lines += ["", "Notes", "", *(f"{number}. {note}." for note, number in notes.items())]
    return "\n".join(lines) + "\n"


def _giga(count: Count) -> str:
    """The multiply-adds in the unit that the paper uses."""
    published = count.row.macs
    if count.macs is None or published is None:
        return ""
    return f"{count.macs / 2**30:.4g} Gi" if published.endswith("Gi") else f"{count.macs / 1e9:.4g} G"


def _cells(
    published: str | None, ours: int | None, shown: str, figure: str | None = None
) -> tuple[str, str, str]:
    if published is None or ours is None:
        return "", "", ""
    error = relative_error(ours, figure or published)
    return published, shown, f"{error:+.2%}" if error else "0"


def _tally(counts: Sequence[Count]) -> str:
    agreements = Counter(a for c in counts for a in (c.params_agreement, c.macs_agreement) if a)
    return (
        f"{agreements.total()} figures: {agreements['unit']} met to the unit, "
        f"{agreements['digits']} to the published digits; {agreements['differs']} differ."
    )
