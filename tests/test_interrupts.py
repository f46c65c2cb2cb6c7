"""Ctrl-C while a command is being imported."""

import subprocess
import sys

import pytest

CODE = """
import os, signal, sys
# A shell lets what it starts in the background ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

class CtrlC:
    def find_spec(self, name, *_):
        if name == "attn_mm.compat":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
sys.argv = sys.argv[1:]
import attn_mm
"""


def interrupted(*argv):
    return subprocess.run([sys.executable, "-c", CODE, *argv], capture_output=True, text=True)


@pytest.mark.parametrize("program", ["bin/attn-mm", "attn-mm-train", "tools"])
def test_a_command_ends_in_one_line(repo, program):
    done = interrupted(str(repo / "tools/train.py") if program == "tools" else program)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_other_peoples_programs_keep_their_traceback():
    done = interrupted("mine.py")
    assert done.stderr.startswith("Traceback") and done.returncode != 130


def test_a_command_that_has_begun_reports_it_itself(repo):
    code = CODE.replace("import attn_mm\n", "from attn_mm.cli.main import main\nmain(['describe', 'x.py'])\n")
    code = code.replace("attn_mm.compat", "attn_mm.describe.main")
    done = subprocess.run([sys.executable, "-c", code, "attn-mm"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
