"""What comes from a data set is text in a config, and can't run."""

import ast

import pytest
from mmengine.config import Config
from small import coco_set, write_annotations

from attn_mm.errors import UserError
from attn_mm.new.literals import comment, source
from attn_mm.new.plan import Plan, Wishes
from attn_mm.new.report import Report
from attn_mm.new.tasks import detection
from attn_mm.new.writing import formatted

NAMES = [
    'a\nimport os; os.system("touch ran")\n#',
    *(f"b{end}import os" for end in ("\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029")),
    "{ { fileDirname } }",
    "\"''' \\N{DASH} \\",
    "größe \U0001f600 \x1b[2J",
]


def test_a_name_can_not_run(tmp_path):
    content = coco_set(tmp_path)
    content["categories"] = [dict(id=number, name=name) for number, name in enumerate(NAMES[:2], 1)]
    write_annotations(tmp_path, content)
    text = formatted(detection.plan("my", Wishes(tmp_path)))
    (line,) = (line for line in text.splitlines() if line.startswith("# classes"))
    assert r"a\nimport os" in line
    names = [ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert {*names} == {"dict"}


def test_literals_and_comments_keep_any_name(tmp_path):
    file = tmp_path / "names.py"
    file.write_text("".join(map(comment, NAMES)) + f"names = {source(NAMES)}\n", encoding="utf-8")
    assert len(file.read_text(encoding="utf-8").splitlines()) == len(NAMES) + 1
    assert Config.fromfile(file).names == NAMES
    assert ast.literal_eval(source(["\ud800", {"a": ("{",)}])) == ["\ud800", {"a": ("{",)}]


@pytest.mark.parametrize(
    "name", ["{{ fileDirname }}", '{{$X:",open("ran","w").name,"|q}}', "{{_base_.model}}"]
)
def test_templates_are_refused(name, tmp_path):
    assert "{{" not in comment(name)
    content = coco_set(tmp_path)
    content["categories"] = [dict(id=1, name="a"), dict(id=2, name=name)]
    write_annotations(tmp_path, content)
    with pytest.raises(UserError, match="which configs replace by other text: rename it"):
        detection.plan("my", Wishes(tmp_path))


@pytest.mark.parametrize("config", ["import os", "a = dict(b=print())", "a = 1\nprint(a)", "del a"])
def test_code_is_refused(config):
    with pytest.raises(UserError, match="would run as code in the config"):
        formatted(Plan("", f"{config}\n", Report()))
