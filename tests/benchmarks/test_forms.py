"""The benchmark of forms, and the rules that its measurements have set."""

from __future__ import annotations

import json

import pytest
import torch

from attn_mm.layers.forms import aw as aw_forms
from attn_mm.layers.forms import tam as tam_forms


@pytest.fixture
def forms(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo))
    from benchmarks import forms

    return forms


@pytest.mark.parametrize("device", ["cpu", "h200"])
def test_the_rules_choose_what_was_measured_to_be_fast(forms, device, repo, monkeypatch):
    """Within 10% of the fastest form, in every case of the record."""
    record = json.loads((repo / "docs" / "results" / f"forms_{device}.json").read_text())
    on_cpu = device == "cpu"
    monkeypatch.setattr(aw_forms, "_is_on_cpu", lambda x: on_cpu)
    for module in (aw_forms, tam_forms):
        monkeypatch.setattr(module.kernels, "usable", lambda x: not on_cpu)
    chosen = {}
    for key, case in record["cases"].items():
        form = forms.choice(forms.case_of(case), "cpu" if on_cpu else "meta")
        chosen[key] = form, forms.over_the_best(case, form)
    slow = {key: value for key, value in chosen.items() if value[1] > 1.1}
    assert not slow
    assert len({form for form, _ in chosen.values()}) > 3


def test_a_slow_choice_is_told(forms):
    record = dict(seconds=dict(baseline=[1.0, 2.0, 1.0], loop=[2.0, 6.0, 2.0], taps=[3.0, 6.0, 3.3]))
    assert forms.medians(record) == dict(loop=2.0, taps=3.0)
    assert forms.over_the_best(record, "taps") == pytest.approx(1.5)


def test_measures_reports_and_goes_on(forms, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(forms, "SHAPES", {name: [forms.Shape(8, 8, 6)] for name in forms.SHAPES})
    flags = [
        "--repeats",
        "2",
        "--threads",
        "1",
        "--batch",
        "3",
        "--device",
        "cpu",
        "--work-dir",
        str(tmp_path),
    ]
    forms.main([*flags, "--mode", "training"])
    record = json.loads((tmp_path / "forms.json").read_text())
    assert {case["layer"]: set(case["seconds"]) for case in record["cases"].values()} == {
        "AW": {"baseline", "grouped", "loop", "taps", "shift"},
        "TD": {"baseline", "written", "covariance", "output"},
        "TAM": {"baseline", "written", "pieces"},
    }
    assert "pieces" in capsys.readouterr().out

    measured = []
    first = next(iter(record["cases"].values()))
    monkeypatch.setattr(forms, "measure", lambda case, **_: measured.append(case) or first)
    forms.main(flags)
    assert {case.mode for case in measured} == {"inference"}
    assert torch.get_num_threads() == 1
