"""The accuracies of localisation, against counting by hand."""

from __future__ import annotations

import pytest

from attn_mm.papers.td.localisation import Guess, Localised, localisation_metrics


def test_localisation_accuracies():
    good, bad = [0, 0, 10, 10], [20, 20, 30, 30]
    half, less = [0, 0, 10, 5], [0, 0, 10, 4.9]
    images = [
        # The class and its box are right; of two objects one is enough.
        Localised({0: [good, bad]}, [Guess([0, 1], {0: half, 1: bad})]),
        # The class is right, the box isn't quite.
        Localised({0: [good]}, [Guess([0, 1], {0: less, 1: good})]),
        # The class is second, its box right.
        Localised({1: [bad]}, [Guess([0, 1], {0: bad, 1: bad})]),
        # It is not among the best, and the map speaks for nothing.
        Localised({2: [good]}, [Guess([0, 1], {0: good, 1: good, 2: None})]),
        # Two classes in one image: the first is not localised, the second is, and is the third best.
        Localised({0: [good], 3: [bad]}, [Guess([0, 1, 3], {0: bad, 1: bad, 3: bad})]),
    ]
    found = localisation_metrics(images)
    assert found["top1"] == pytest.approx(3 / 5)
    assert found["top1_loc"] == pytest.approx(1 / 5)
    assert found["top5"] == pytest.approx(4 / 5)
    assert found["top5_loc"] == pytest.approx(3 / 5)
    # Class 0: 1 of 3; class 1: 1 of 1; class 2: 0 of 1; class 3: 1 of 1.
    assert found["known_loc"] == pytest.approx(3 / 6)
    assert found["corloc"] == pytest.approx((1 / 3 + 1 + 0 + 1) / 4)


def test_of_several_guesses_one_has_to_be_right():
    good, bad = [0, 0, 10, 10], [20, 20, 30, 30]
    # The class is right in one guess and the box in the other: that is no right guess.
    apart = [Guess([0, 1], {0: bad, 1: bad}), Guess([1, 2], {0: good, 1: bad, 2: bad})]
    second = [Guess([1, 2], {0: bad, 1: bad, 2: bad}), Guess([0, 1], {0: good, 1: bad})]
    found = localisation_metrics([Localised({0: [good]}, guesses) for guesses in (apart, second)])
    assert (found["top1"], found["top1_loc"], found["top5_loc"]) == (1, 1 / 2, 1 / 2)
    assert (found["known_loc"], found["corloc"]) == (1, 1)
