"""What ``--seeds`` tells of its runs."""

from __future__ import annotations

import json

import pytest
from mmengine.config import Config

from attn_mm.run import seeds


@pytest.mark.parametrize(
    "found, lines",
    [
        ([{"AP": 0.25}, {"AP": 0.75}], ["| AP     | 0.5000 (0.3536) | 0.2500 | 0.7500 |"]),
        (
            [{"AP": 0.25, "time": 1.0}, {"time": 1.0}],
            ["| time   | 1.0000 (0.0000) | 1.0000 | 1.0000 |", "AP: only of seed 3"],
        ),
        (
            [{}, {"AP": 0.25}],
            ["no metric is available for all seeds", "AP: only of seed 4"],
        ),
        ([{}, {}], ["no metric is available for all seeds"]),
    ],
)
def test_metrics_that_a_seed_lacks_are_named(found, lines, tmp_path, capsys):
    """A detector that finds nothing has no AP."""
    seeds._write(Config({"work_dir": str(tmp_path)}), [3, 4], found)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line in lines] == lines
    assert ("only of" in "".join(said)) == ("only of" in "".join(lines))
    written = (tmp_path / "seeds.md").read_text().splitlines()
    assert [line for line in written if line in lines] == lines
    partial = json.loads((tmp_path / "seeds.json").read_text())["partial"]
    assert all(len(values) == 1 for values in partial.values())
    assert set(partial) == {line.partition(":")[0] for line in lines if "only of" in line}
