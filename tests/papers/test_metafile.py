"""The metafiles list every config once, and say what the configs are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from attn_mm.errors import UserError
from attn_mm.papers import metafile, paper_names
from attn_mm.papers.metafile import folders, read_metafile
from attn_mm.utils.config_names import CONFIGS

ENTRIES = [entry for folder in folders() for entry in read_metafile(folder).entries]


def test_every_config_is_in_one_metafile():
    listed = [entry.config for entry in ENTRIES]
    found = [
        path.relative_to(CONFIGS.parent).as_posix()
        for path in CONFIGS.rglob("*.py")
        if "_base_" not in path.relative_to(CONFIGS).parts
    ]
    assert sorted(listed) == sorted(found)
    assert all(Path(entry.config).stem == entry.name for entry in ENTRIES)


@pytest.mark.parametrize("folder", folders())
def test_configs_are_in_their_own_folder(folder):
    elsewhere = {"configs/fcos_tdaf_r50.py"} if folder == "tdaf" else set()
    entries = read_metafile(folder).entries
    assert {e.config for e in entries if not e.config.startswith(f"configs/{folder}/")} == elsewhere


def test_the_papers_are_the_folders_whose_metafile_names_one():
    names = set(paper_names())
    assert {"aw", "ltpa", "tam", "td", "tdaf"} <= names
    assert not {"action", "detection", "finegrained", "multilabel", "pose"} & names


@pytest.mark.parametrize("folder", folders())
def test_fields_are_those_of_openmmlab(folder):
    """As numbers, where these tools expect them."""
    content = yaml.safe_load((CONFIGS / folder / "metafile.yml").read_text())
    (collection,) = content["Collections"]
    assert (CONFIGS.parent / collection["README"]).is_file()
    for model in content["Models"]:
        assert model["In Collection"] == collection["Name"]
        assert type(model["Metadata"]["Parameters"]) is int
        assert type(model["Metadata"]["FLOPs"]) is int
        for result in model.get("Results", ()):
            assert {"Task", "Dataset", "Metrics"} <= result.keys()
            assert all(type(value) in (int, float) for value in result["Metrics"].values())


@pytest.mark.parametrize("folder", folders())
def test_every_result_is_in_a_table(folder):
    content = read_metafile(folder)
    tables = [(table.where, table.dataset) for table in content.tables]
    assert len(set(tables)) == len(tables)
    found = {(result.where, result.dataset) for entry in content.entries for result in entry.results}
    assert found == set(tables)
    assert not content.paper or all(entry.results for entry in content.entries)


def test_accuracies_of_networks_with_steps_name_their_protocol():
    results = [(e.name, r) for e in read_metafile("td").entries for r in e.results if r.where == "table 1"]
    printed = [(name, result) for name, result in results if result.metrics]
    assert len(printed) == 28, "14 networks on ImageNet V1 and V2"
    for name, result in printed:
        assert result.steps == ("any" if "_td-" in name else ""), name


def test_digits_stay_as_printed():
    (entry,) = (entry for entry in read_metafile("tam").entries if entry.name == "r50_cbam_300e_cifar10")
    assert entry.results[0].metrics == {"Top 1 Error": "4.80"}


def test_an_unknown_field_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(metafile, "CONFIGS", tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/metafile.yml").write_text(
        "Collections: [{Name: X, Metadata: {Parameters: 1, FLOPs: 1, Framework: mmdet}}]\n"
        "Models: [{Name: net, Config: net.py, Metadata: {}, Published: [{Where: a, Flops: 2 G}]}]\n"
    )
    with pytest.raises(UserError, match="net has an unknown field 'Flops'"):
        read_metafile("x")


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("[{Name: net, Config: net.py}]", "lacks the field Metadata of an entry"),
        (
            "[{Name: net, Config: net.py, Metadata: {}}, {Name: b, Config: net.py, Metadata: {}}]",
            "net.py 2 times",
        ),
    ],
)
def test_entries_are_whole_and_listed_once(tmp_path, monkeypatch, models, said):
    monkeypatch.setattr(metafile, "CONFIGS", tmp_path)
    (tmp_path / "y").mkdir()
    (tmp_path / "y/metafile.yml").write_text(
        "Collections: [{Name: X, Metadata: {Parameters: 1, FLOPs: 1, Framework: mmdet}}]\n"
        f"Models: {models}\n"
    )
    with pytest.raises(UserError, match=said):
        read_metafile("y")


def test_a_further_paper_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(metafile, "CONFIGS", tmp_path)
    (tmp_path / "sixth").mkdir()
    (tmp_path / "sixth/metafile.yml").write_text(
        "Collections:\n"
        "- Name: SIX\n"
        "  Paper: {Title: T, Citation: C, URL: U}\n"
        "  Metadata: {Framework: mmpretrain, Convention: conv, Shape: 3x8x8}\n"
        "Models:\n"
        "- Name: net\n"
        "  Config: configs/sixth/net.py\n"
        "  Metadata: {Parameters: 1000, FLOPs: 2000000000}\n"
        "  Published: [{Where: counted, Network: N}, {Where: table 1, Network: N, FLOPs: 2 G}]\n"
    )
    assert paper_names() == ["sixth"]
    first, second = read_metafile("sixth").rows()
    assert (first.where, first.params, first.macs) == ("SIX, counted", "1,000", None)
    assert (second.params, second.macs, second.shape) == (None, "2 G", (3, 8, 8))
