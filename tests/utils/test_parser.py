"""The commands' parser proposes the option that a user may have meant."""

from __future__ import annotations

import pytest

from attn_mm.utils.parser import CommandParser, closest


@pytest.fixture
def parser():
    made = CommandParser("Do it.\n\n  %(prog)s FILE", prog="attn-mm do")
    made.add_argument("file")
    made.add_argument("--score-thr", type=float)
    made.add_argument("--demo", action="store_true")
    made.add_argument("--task", choices={"pose": "Body 2D Keypoint"})
    inner = made.add_subparsers(dest="analysis").add_parser("fool", description="Fool it.\n\n  %(prog)s x")
    inner.add_argument("--pictures")
    return made


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--score_thr", "0.5"], "; did you mean --score-thr?"),
        (["--scor-thr=0.5"], "; did you mean --score-thr?"),
        (["-demo"], "; did you mean --demo?"),
        (["--Demo"], "; did you mean --demo?"),
        (["\N{EM DASH}demo"], "; did you mean --demo?"),
        (["--pictues", "3"], "; did you mean --pictures?"),
        (["--batch-size", "3"], ""),
        (["--"], ""),
        ([""], ""),
        (["=x"], ""),
    ],
)
def test_hints(parser, words, hint, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["x.jpg", "fool", *words, "spare"])
    assert capsys.readouterr().err.endswith(f"{hint}\n")


def test_line_breaks_and_the_command_of_the_examples(parser):
    assert "Do it.\n\n  attn-mm do FILE\n" in parser.format_help()


def test_the_parsers_of_analyses_are_of_the_same_kind(parser, capsys):
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args(["x.jpg", "fool", "-h"])
    assert "Fool it.\n\n  attn-mm do file fool x\n" in capsys.readouterr().out


def test_nothing_is_close_to_nothing():
    assert closest("", ["train"]) is None
    assert closest("train", []) is None
