"""Lists of AVA: what its data set would misread is refused in one line."""

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from attn_mm.datasets.checks.guard import Watch
from attn_mm.errors import UserError

pytest.importorskip("mmaction.datasets")

GOOD = "clip,902,0.1,0.2,0.5,0.9,3,0\nclip,902,0.1,0.2,0.5,0.9,5,0\nclip,903,0,0,1,1,80,1"
LINE = "expected video, second, left, top, right, bottom, action, person; got "
BOX = "is no left, top, right and bottom, each in 0..1 as a share of the picture"


def check(path, text, **options):
    path.write_text(text)
    node = dict(type="AVADataset", ann_file=str(path), pipeline=[], **options)
    with DefaultScope.overwrite_default_scope("mmaction"):
        Watch(Config()).check_before(node)


def test_a_good_list(tmp_path):
    check(tmp_path / "ava.csv", GOOD)


def test_actions_that_are_left_out_are_no_fault(tmp_path):
    names = "".join(f'item {{\n  name: "{i}"\n  id: {i}\n}}\n' for i in (3, 5))
    (tmp_path / "names.pbtxt").write_text(names)
    options = dict(custom_classes=[3, 5], num_classes=3, label_file=str(tmp_path / "names.pbtxt"))
    check(tmp_path / "ava.csv", GOOD, **options)


@pytest.mark.parametrize(
    "line, said",
    [
        ("clip,902,0.1,0.2,0.5,0.9,-1,0", "line 2: the action -1 is not in 1..80: correct it"),
        ("clip,902,0.1,0.2,0.5,0.9,0,0", "the action 0 is not in 1..80"),
        ("clip,902,0.1,0.2,0.5,0.9,81,0", "the action 81 is not in 1..80"),
        ("clip,902,0.1,0.2,0.5,0.9,run,0", LINE),
        ("clip,902,0.1,0.2,0.5,0.9,3", LINE),
        ("clip,nine,0.1,0.2,0.5,0.9,3,0", LINE),
        ("", LINE),
        ("clip,902,10,20,50,90,3,0", BOX),
        ("clip,902,0.5,0.2,0.1,0.9,3,0", BOX),
        ("clip,902,nan,0.2,0.5,0.9,3,0", BOX),
        ("clip,902,0.1,0.2,0.5,inf,3,0", BOX),
    ],
)
def test_lines_that_would_be_misread(line, said, tmp_path):
    with pytest.raises(UserError) as stop:
        check(tmp_path / "ava.csv", "\n".join([GOOD.splitlines()[0], line, GOOD.splitlines()[1]]))
    assert said in str(stop.value) and "\n" not in str(stop.value) and "ava.csv, line 2" in str(stop.value)


def test_an_empty_list(tmp_path):
    with pytest.raises(UserError, match="lists no action"):
        check(tmp_path / "ava.csv", "")
