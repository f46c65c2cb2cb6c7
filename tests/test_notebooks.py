"""What is stored of the notebooks; ``uvx nox -s notebook`` runs them."""

import json

import pytest


def test_they_have_no_outputs_and_run_known_commands(repo):
    from attn_mm.cli.commands import COMMANDS

    paths = sorted(repo.glob("notebooks/*.ipynb"))
    if not paths:
        pytest.skip("not a checkout")
    for path in paths:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
        lines = "".join("".join(cell["source"]) + "\n" for cell in cells).splitlines()
        commands = [line.split()[1] for line in lines if line.startswith("attn-mm ")]
        assert commands and set(commands) <= COMMANDS.keys()
