"""The length of a training follows from the size of its set."""

import pytest

from attn_mm.new.schedule import batch_size_for, epochs_for, last_is_alone


@pytest.mark.parametrize(
    "number, batch_size, epochs", [(205, 8, 100), (2000, 8, 12), (1000, 8, 24), (118_287, 8, 12), (3, 2, 100)]
)
def test_about_three_thousand_steps(number, batch_size, epochs):
    assert epochs_for(number, batch_size) == epochs


@pytest.mark.parametrize("number, size", [(1, 2), (9, 2), (31, 7), (32, 8), (10_000, 8)])
def test_a_small_set_has_small_batches(number, size):
    assert batch_size_for(number, usual=8) == size


def test_a_last_batch_of_one_is_told_from_others():
    assert [last_is_alone(number, 4) for number in (4, 5, 6, 7, 8, 9)] == [
        False,
        True,
        False,
        False,
        False,
        True,
    ]
