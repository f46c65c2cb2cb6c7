"""``attn-mm`` finds its commands, gives them their names, and helps with a misspelt one."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import attn_mm
from attn_mm.cli.commands import COMMANDS
from attn_mm.cli.main import main


@pytest.fixture(autouse=True)
def own_argv(monkeypatch):
    """The arguments of the process stay those of pytest."""
    monkeypatch.setattr(sys, "argv", ["pytest"])


def test_the_overview_names_every_command_once(capsys):
    main([])
    text = capsys.readouterr().out
    lines = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and "attn-mm" not in line]
    assert lines == list(COMMANDS)
    assert max(map(len, text.splitlines())) < 90
    main(["-h"])
    assert capsys.readouterr().out == text


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"attn-mm {attn_mm.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_and_examples_name_the_command(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: attn-mm {name} ")
    assert f"\n  attn-mm {name} " in text
    assert ".py configs" not in text


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("trian", "train"),
        ("eval_video", "eval-video"),
        ("eval", "eval-video"),
        ("Train", "train"),
        ("localize", "localise"),
        ("complexty", "complexity"),
    ],
)
def test_a_misspelt_command(word, meant, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([word])
    assert capsys.readouterr().err == (
        f"error: there is no command '{word}'; did you mean attn-mm {meant}?\n"
    )


@pytest.mark.parametrize(
    ("word", "meant"),
    [("help", "--help"), ("--hlep", "--help"), ("-help", "--help"), ("vresion", "--version")],
)
def test_a_misspelt_option_of_all_commands(word, meant, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([word])
    assert f"did you mean attn-mm {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["configs/fcos_tdaf_r50.py", "", "-", "--demo"])
def test_what_is_like_no_command(word, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([word])
    error = capsys.readouterr().err
    assert "attn-mm --help lists the commands" in error


def test_a_command_gets_its_arguments_and_loads_no_other(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "no/such.pth", "x.pth", "--to", "mmdet"])
    assert "no/such.pth does not exist" in capsys.readouterr().err


def test_help_and_hints_import_neither_torch_nor_a_framework():
    code = (
        "import sys; sys.argv = ['attn-mm']\n"
        "from attn_mm.cli.main import main\n"
        "main([])\n"
        "try: main(['trian'])\n"
        "except SystemExit: pass\n"
        "print('BROUGHT', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = done.stdout.splitlines()[-1].split()
    assert brought[0] == "BROUGHT" and "attn_mm" in brought
    assert not {"torch", "mmengine", "mmcv", "mmdet", "rich", "cv2"} & set(brought)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_describes_its_options(command):
    module = import_module(command.module)
    assert module.make_parser().format_usage()
    assert command.help[0].islower() or (command.help[0].isdigit() and not command.help.endswith("."))


def test_nothing_in_the_package_names_a_script_of_the_checkout(repo):
    paths = [path for path in (repo / "attn_mm").rglob("*.py") if ".mim" not in path.parts]
    assert len(paths) > 300
    named = [path.name for path in paths if "tools/" in path.read_text() or "attn-mm-" in path.read_text()]
    assert named == []
