"""The choice between the predictions of a network's steps."""

from __future__ import annotations

import numpy as np

from attn_mm.frameworks.mmpretrain.step_choice import best_guess, most_confident, unique_steps


def test_the_most_confident_step_counts():
    scores = np.array([[[0.5, 0.5], [0.1, 0.9], [0.3, 0.7]], [[0.6, 0.4], [0.2, 0.8], [0.7, 0.3]]])
    assert most_confident(scores).tolist() == [1, 0, 0]


def test_of_steps_with_the_same_map_the_more_confident_counts():
    here, nearly, elsewhere, half = [0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 5]
    assert unique_steps([0.2, 0.5, 0.4], [here, nearly, elsewhere]) == [1, 2]
    assert unique_steps([0.5, 0.2], [here, half]) == [0]
    assert unique_steps([0.5, 0.2], [here, [0, 0, 10, 4]]) == [0, 1]
    assert unique_steps([0.5, 0.2], [here, None]) == [0]
    assert unique_steps([0.5, 0.6], [here, None]) == [1, 0]


def test_judging_by_the_best_guess_counts_every_image_that_any_guess_has():
    rng = np.random.default_rng(0)
    for _ in range(50):
        # Few values, so that some classes are tied.
        scores, label = rng.integers(0, 6, (4, 8)) / 10, int(rng.integers(8))
        kept = rng.permutation(4)[: rng.integers(1, 5)].tolist()
        order = np.argsort(-scores, axis=1, kind="stable")
        step = best_guess(scores, kept, label)
        assert step in kept
        for k in (1, 3, 5):
            assert (label in order[step, :k]) == any(label in order[each, :k] for each in kept)
