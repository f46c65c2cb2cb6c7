"""The table of what fits torchvision's and timm's networks."""

import json

import pytest

pytest.importorskip("timm")


def test_counts_what_fits(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo))
    from benchmarks import torch_networks

    rows = json.loads((repo / "docs/results/torch_networks.json").read_text())
    text = torch_networks.report(rows)
    assert text.count("\n") == 85 and "| alexnet " in text
    fits = sum(not row["refused"]["TD"] for row in rows if row["library"] == "timm")
    assert f"TD {fits}, TDAF" in text.splitlines()[-1]
