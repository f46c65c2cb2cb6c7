"""What ``--seeds`` tells of its runs."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from attn_mm.run import seeds


@pytest.mark.parametrize(
    "found, lines",
    [
        ([{"AP": 0.25}, {"AP": 0.75}], ["| AP     | 0.5000 (0.3536) | 0.2500 | 0.7500 |"]),
        (
            [{"AP": 0.25, "time": 1.0}, {"time": 1.0}],
            ["| time   | 1.0000 (0.0000) | 1.0000 | 1.0000 |", "left out: AP, missing for seed 4"],
        ),
        (
            [{}, {"AP": 0.25}],
            [
                "no metric of the last validations is known for every seed",
                "left out: AP, missing for seed 3",
            ],
        ),
        ([{}, {}], ["no metric of the last validations is known for every seed"]),
    ],
)
def test_metrics_that_a_seed_lacks_are_named(found, lines, tmp_path, capsys):
    """A detector that finds nothing has no AP."""
    seeds._write(Config({"work_dir": str(tmp_path)}), [3, 4], found)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line in lines] == lines
    assert ("left out" in "".join(said)) == ("left out" in "".join(lines))
