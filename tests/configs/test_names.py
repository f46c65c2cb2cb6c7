"""The names of the configs follow configs/README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attn_mm.utils.config_names import CONFIGS

NAMES = [path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts and path.parent != CONFIGS]
DATA = {"cifar10", "cifar10-yuv", "cifar100", "coco", "coco2014", "cub", "dogs", "in1k", "in1k-200"}
DATA |= {"kinetics400", "svhn", "voc", "voc12aug"}
SCHEDULE = re.compile(r"\d+e|asl|pretrained|trained-norms")


def test_one_config_stands_outside_of_the_folders():
    assert [path.name for path in CONFIGS.glob("*.py")] == ["fcos_tdaf_r50.py"]


@pytest.mark.parametrize("folder", sorted({path.parent for path in NAMES}), ids=lambda folder: folder.name)
def test_fields(folder):
    for path in NAMES:
        if path.parent == folder:
            _, attention, *schedule, data = path.stem.split("_")
            assert data in DATA, path
            assert len(schedule) <= 1 and all(map(SCHEDULE.fullmatch, schedule)), path
            assert "plain" not in attention.split("-")[1:], path


def test_no_two_names_have_the_same_words():
    words = [tuple(sorted(re.split("[-_]", path.stem))) for path in NAMES]
    assert len(set(words)) == len(words)


def test_a_plain_network_names_no_module_of_attn_mm_around_its_own():
    for path in NAMES:
        text = Path(path).read_text()
        assert ("_plain_" in path.stem) <= ("attn_mm.AttnBackbone" not in text), path
