"""Whether a network differs from another by more than the seeds explain."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from attn_mm.utils.extras import require


class Difference(NamedTuple):
    """The difference of two networks over the seeds that both have.

    Attributes:
        mean: mean difference.
        n: number of seeds.
        p: two-sided p value of the paired t test; None for fewer than two seeds, or if no pair differs.
    """

    mean: float
    n: int
    p: float | None


def paired_difference(ours: Mapping[int, float], plain: Mapping[int, float]) -> Difference | None:
    """Compare results by seed, each a mapping from the seed; None if they share no seed."""
    seeds = sorted(ours.keys() & plain.keys())
    if not seeds:
        return None
    mean = statistics.fmean(ours[seed] - plain[seed] for seed in seeds)
    if len(seeds) < 2:
        return Difference(mean, len(seeds), None)
    with warnings.catch_warnings():
        # Pairs that all differ by the same make it divide by zero.
        warnings.simplefilter("ignore")
        test = require("scipy.stats").ttest_rel(
            [ours[seed] for seed in seeds], [plain[seed] for seed in seeds]
        )
    p = float(test.pvalue)
    return Difference(mean, len(seeds), None if math.isnan(p) else p)
