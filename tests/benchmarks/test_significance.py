"""The paired t test against its closed form for three pairs."""

from __future__ import annotations

import math

import pytest


@pytest.fixture
def paired(importable):
    from benchmarks.significance import paired_difference

    return paired_difference


def test_three_pairs(paired):
    plain = {0: 90.0, 1: 91.0, 2: 92.0, 7: 10.0}
    # In another order; the seeds 7 and 8 have no partner.
    ours = {2: 95.0, 1: 93.0, 0: 91.0, 8: 99.0}
    found = paired(ours, plain)
    t = 2 / (1 / math.sqrt(3))
    assert (found.mean, found.n) == (pytest.approx(2), 3)
    # Student's distribution with two degrees of freedom.
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2))


def test_too_few_pairs(paired):
    assert paired({0: 91.0}, {1: 90.0}) is None
    assert paired({0: 91.0}, {0: 90.0}) == (1, 1, None)
    assert paired({0: 91.0, 1: 92.0}, {0: 91.0, 1: 92.0}) == (0, 2, None)
