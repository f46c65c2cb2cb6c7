"""Commands set how torch's threads wait, before torch reads it."""

import os
import subprocess
import sys

import pytest

from attn_mm.utils.threads import sleep_while_waiting

CHOICES = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"
HELP = """
import os, sys
import {module}
assert "torch" not in sys.modules
try:
    {module}.main({arguments})
except SystemExit:
    pass
assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("attn_mm.cli.main", ["train", "--help"]), ("attn_mm.run.train", ["--help"])],
)
def test_a_training_sets_it_before_torch_is_imported(module, arguments):
    script = HELP.format(module=module, arguments=arguments)
    env = {name: value for name, value in os.environ.items() if name not in CHOICES}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-300:]


@pytest.mark.parametrize("name", CHOICES)
def test_the_environments_choice_stays(name, monkeypatch):
    monkeypatch.setattr(os, "environ", {name: "7"})
    sleep_while_waiting()
    assert os.environ == {name: "7"}
