"""Overheads that the papers publish, as ratios to the plain backbone."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A module's cost according to a paper.

    Attributes:
        where: the paper, and the table or section in it.
        module, backbone: names in :mod:`benchmarks.networks`.
        mode: ``'inference'`` or ``'training'``.
        time: time of a step relative to the plain backbone; None if unpublished.
        memory: peak memory of a step relative to the plain backbone; None if unpublished.
    """

    where: str
    module: str
    backbone: str
    mode: str
    time: float | None
    memory: float | None = None


def _table_1(module: str, backbone: str, plain: tuple, own: tuple) -> list[Published]:
    """Rows of TD's table 1: GB and frames per second, in training and in validation."""
    memory_train, memory_val, fps_train, fps_val = (
        (p / o if i > 1 else o / p) for i, (p, o) in enumerate(zip(plain, own))
    )
    return [
        Published("TD, table 1", module, backbone, "training", fps_train, memory_train),
        Published("TD, table 1", module, backbone, "inference", fps_val, memory_val),
    ]


_R50, _R101 = (29.5, 16.1, 195, 570), (39.2, 16.6, 123, 368)

PUBLISHED = [
    *_table_1("SE", "r50", _R50, (32.4, 16.0, 162, 496)),
    *_table_1("CBAM", "r50", _R50, (37.6, 20.7, 107, 347)),
    *_table_1("ECA", "r50", _R50, (31.5, 16.1, 168, 502)),
    *_table_1("FCA", "r50", _R50, (32.4, 16.3, 146, 468)),
    *_table_1("TD", "r50", _R50, (31.9, 16.2, 160, 493)),
    *_table_1("TD-top", "r50", _R50, (31.8, 16.0, 162, 495)),
    *_table_1("TD-top-m3", "r50", _R50, (35.3, 16.3, 131, 405)),
    *_table_1("SE", "r101", _R101, (45.5, 16.9, 98, 321)),
    *_table_1("CBAM", "r101", _R101, (53.3, 21.4, 70, 226)),
    *_table_1("FCA", "r101", _R101, (47.0, 17.1, 94, 304)),
    *_table_1("TD-r101", "r101", _R101, (41.0, 16.8, 105, 339)),
    *_table_1("TD-r101-layer4", "r101", _R101, (40.3, 16.8, 113, 350)),
    Published("TDAF, 'On Time Overhead'", "TDAF", "r50", "inference", 0.018 / 0.015),
    Published("TDAF, 'On Time Overhead'", "TDAF", "r101", "inference", 0.035 / 0.031),
]
"""TD states no GPU or batch size. TDAF uses a Titan Xp with batch 256. Other papers publish no times."""
