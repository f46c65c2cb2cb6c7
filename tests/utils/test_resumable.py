"""What an interrupted run has found: continued, and refused where it is not its own."""

from __future__ import annotations

import pytest

from attn_mm.errors import UserError
from attn_mm.utils.resumable import Partial

ABOUT = {"clips": 2}


def test_a_torn_last_line_is_dropped(tmp_path):
    path = tmp_path / "x.partial"
    with Partial(path, ABOUT, flag="--out") as partial:
        partial.add(3, [1.5])
        partial.add(4, None)
    path.write_text(path.read_text()[:-3])
    with Partial(path, ABOUT, flag="--out") as partial:
        assert partial.found == {3: [1.5]}
        partial.add(5, "x")
    with Partial(path, ABOUT, flag="--out") as partial:
        assert partial.found == {3: [1.5], 5: "x"}


@pytest.mark.parametrize("lines", ["5\n", "[]\n", "{\n", '{"clips": 2}\n{"key": 1}\n', '{"clips": 2}\n7\n'])
def test_what_no_run_has_written(tmp_path, lines):
    path = tmp_path / "x.partial"
    path.write_text(lines)
    with pytest.raises(UserError, match=r"x\.partial is damaged: remove it, or name another --out"):
        Partial(path, ABOUT, flag="--out")
    assert path.read_text() == lines


def test_a_run_with_something_else(tmp_path):
    path = tmp_path / "x.partial"
    with Partial(path, ABOUT, flag="--out") as partial:
        partial.add(3, None)
    with pytest.raises(UserError, match="of an interrupted run with another clips"):
        Partial(path, {"clips": 3}, flag="--out")


def test_what_json_spells_otherwise_is_the_same_run(tmp_path):
    about = {"cfg_options": {"scale": (2, 3)}, "sizes": {4: 5}}
    for key in (1, 2):
        with Partial(tmp_path / "x.partial", about, flag="--out") as partial:
            partial.add(key, None)
    assert list(partial.found) == [1, 2]
    with pytest.raises(UserError, match="another cfg_options"):
        Partial(tmp_path / "x.partial", about | {"cfg_options": {"scale": (2, 4)}}, flag="--out")


def test_a_run_at_the_same_time(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "x.partial"
    with Partial(path, ABOUT, flag="--out") as first:
        first.add(3, "x")
        with pytest.raises(UserError, match=r"x\.partial: another run is writing it; name another --out"):
            Partial(path, ABOUT, flag="--out")
        first.add(4, "y")
    with Partial(path, ABOUT, flag="--out") as later:
        assert later.found == {3: "x", 4: "y"}


def test_a_run_that_has_found_nothing_leaves_nothing(tmp_path):
    path = tmp_path / "x.partial"
    with pytest.raises(KeyboardInterrupt), Partial(path, ABOUT, flag="--out"):
        raise KeyboardInterrupt
    with Partial(path, {"clips": 3}, flag="--out"):
        pass
    assert not path.exists()
