"""The benchmark on a handful of images, on a network small enough for a test."""

from __future__ import annotations

import json

import pytest
import small

pytest.importorskip("mmpose")
pytest.importorskip("mmdet")


@pytest.fixture(scope="module")
def overfit(benchmark_file):
    return benchmark_file("overfit")


@pytest.fixture
def flags(tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path))
    config = small.dump(small.pose_config(tmp_path), tmp_path / "config.py")
    paths = {
        "--ann-file": tmp_path / "annotations.json",
        "--img-dir": tmp_path / "images",
        "--work-dir": tmp_path / "work",
    }
    return lambda **changes: [config, *(str(x) for pair in {**paths, **changes}.items() for x in pair)]


def test_what_was_learnt_is_drawn(overfit, flags, small_demos, tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path, number=2))
    overfit.main([*flags(), "--images", "3", "--iterations", "2", "--batch-size", "2"])
    record = json.loads((tmp_path / "work" / "overfit.json").read_text())
    assert record["images"] == 2 and min(record["losses"]) > 0
    pictures = tmp_path / "work" / "pictures"
    assert sorted(path.name for path in pictures.iterdir()) == ["0000.jpg", "0001.jpg", "predictions.json"]
    content = json.loads((pictures / "predictions.json").read_text())
    assert content["checkpoint"] == str(tmp_path / "work" / "iter_2.pth")
    assert [len(record["objects"]) for record in content["results"]] == [1, 1]


@pytest.mark.parametrize(
    ("flag", "path", "said"),
    [
        ("--ann-file", "absent.json", "absent.json can't be read"),
        ("--ann-file", "config.py", "config.py is not a JSON file"),
        ("--ann-file", "bare.json", "bare.json has no annotated image"),
        ("--ann-file", "odd.json", "odd.json: annotations[0]: expected object, got str"),
        ("--img-dir", "absent", "absent is not a folder"),
    ],
)
def test_mistakes(overfit, flags, tmp_path, capsys, flag, path, said):
    content = small.coco_set(tmp_path)
    small.write_annotations(tmp_path, dict(content, annotations=[]), "bare.json")
    small.write_annotations(tmp_path, dict(content, annotations=["a box"]), "odd.json")
    with pytest.raises(SystemExit) as stopped:
        overfit.main(flags(**{flag: tmp_path / path}))
    assert stopped.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and said in line
