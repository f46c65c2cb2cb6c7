"""Count the parameters and multiply-adds of a config's network, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mmengine.config import Config

from attn_mm.describe.build import look_at
from attn_mm.describe.counting import Part, measure
from attn_mm.utils.tables import markdown_table


def count_config(cfg: Config, shape: Sequence[int], depth: int = 2) -> list[Part]:
    """Count the model of ``cfg`` and its parts; raises the errors of :func:`look_at`."""
    return look_at(cfg, shape, partial(measure, depth=depth))


def config_report(name: str, shape: Sequence[int], parts: Sequence[Part]) -> str:
    """Format the counts as Markdown."""
    total = parts[0]
    header = ("part", "type", "parameters", "trainable", "MACs, conv", "MACs, full")
    rows = [
        (
            "total" if part is total else part.name,
            part.type,
            f"{part.params:,}",
            f"{part.trainable:,}",
            *("" if n is None else f"{n / 1e9:.3f} G" for n in (part.conv, part.full)),
        )
        for part in (*parts[1:], total)
    ]
    lines = [f"# {name}, input {' x '.join(map(str, shape))}", "", markdown_table(header, rows, header[2:])]
    if total.frozen_affine:
        kept = total.params - total.frozen_affine
        lines += ["", f"Without the scales and shifts of frozen batch norms: {kept:,} parameters."]
    return "\n".join(lines) + "\n"
