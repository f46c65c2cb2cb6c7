"""Videos that can't be used, given to ``tools/train.py`` and ``tools/test.py`` as a user would."""

from __future__ import annotations

import json
import pickle
import re
import shutil

import pytest
import small
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS, DefaultScope
from small_videos import action_config, damaged, video_set, write_list

from attn_mm.datasets.checks import guard as bad_data
from attn_mm.datasets.checks import skipped_files as stand_ins
from attn_mm.datasets.checks import unreadable
from attn_mm.datasets.checks.config_files import check_data
from attn_mm.errors import UserError
from attn_mm.run import test, train

pytest.importorskip("mmaction")
pytest.importorskip("decord")
pytestmark = pytest.mark.usefixtures("workers_gone")

workers = pytest.mark.parametrize("num_workers", [0, 2])
DECODERS = {
    "mmaction": (dict(type="DecordInit"), dict(type="DecordDecode")),
    "attn_mm": (dict(type="attn_mm.OpenVideo"), dict(type="attn_mm.ReadFrames")),
}


@pytest.fixture
def root(tmp_path):
    """A folder with a good set, in which tests break things."""
    video_set(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return small.save_weights(action_config(folder), folder / "weights.pth", spread=0.3)


def config(root, decoder="mmaction"):
    cfg = action_config(root)
    for split in ("train", "val", "test"):
        steps = cfg[f"{split}_dataloader"].dataset.pipeline
        steps[0], steps[2] = DECODERS[decoder]
    return cfg


def run_train(root, cfg, *flags):
    train.main([small.dump_numbered(cfg, root), "--work-dir", str(root / "work"), *flags])
    return json.loads((root / "work" / "results.json").read_text())


def run_test(root, cfg, checkpoint, *flags, work="test"):
    test.main([small.dump_numbered(cfg, root), checkpoint, "--work-dir", str(root / work), *flags])
    return json.loads((root / work / "test_results.json").read_text())


def fails(capfd, run, *args) -> str:
    """The one line of a run that must end with status 2."""
    # decord's own account, from a worker, may come before, behind and around it.
    (line,) = re.findall("error: .*", small.stopped(capfd, run, *args))
    return line


# What is wrong with them, as a run says it.
BAD = dict.fromkeys(["text.mp4", "empty.mp4", "short.mp4", "damaged.mp4"], "damaged")
BAD["missing.mp4"] = "no such file"


def spoil(root):
    """Files that are no videos, beside the good ones in one of two lists."""
    content = (root / "videos" / "5.mp4").read_bytes()
    (root / "videos" / "text.mp4").write_text("not a video\n" * 10)
    (root / "videos" / "empty.mp4").touch()
    # Without its index, which stands at the end.
    (root / "videos" / "short.mp4").write_bytes(content[: len(content) // 2])
    (root / "videos" / "damaged.mp4").write_bytes(damaged(content))
    good = [(f"{index}.mp4", index) for index in range(6)]
    write_list(root, good, "good.txt")
    write_list(root, good[:3] + [(name, 7) for name in BAD] + good[3:])


def assert_named_once(root, work, goes_on):
    (record,) = (root / work).glob("*/*.log")
    lines = [line for line in record.read_text().splitlines() if "can't be read as a video" in line]
    assert len(lines) == len(BAD)
    for name, reason in BAD.items():
        (line,) = (line for line in lines if str(root / "videos" / name) in line)
        assert reason in line and line.endswith(f"{goes_on} continues without it")


@pytest.mark.parametrize(("decoder", "num_workers"), [(name, 0) for name in DECODERS] + [("attn_mm", 2)])
def test_training_goes_on_without_them(root, decoder, num_workers):
    spoil(root)
    cfg = config(root, decoder)
    # Clips of the whole video: each meets the damage.
    cfg.train_dataloader.dataset.pipeline[1].update(clip_len=16, frame_interval=1)
    cfg.train_dataloader.num_workers = num_workers
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.val_dataloader.dataset.ann_file = "good.txt"
    results = run_train(root, cfg)
    assert (root / "work" / "epoch_2.pth").exists() and results["skipped"] == []
    assert_named_once(root, "work", "training")


@pytest.mark.parametrize(("decoder", "num_workers"), [(name, 0) for name in DECODERS] + [("mmaction", 2)])
def test_evaluation_is_of_the_others(root, checkpoint, decoder, num_workers):
    spoil(root)
    cfg = config(root, decoder)
    cfg.test_dataloader.dataset.ann_file = "good.txt"
    expected = run_test(root, cfg, checkpoint, "--out", str(root / "good.pkl"), work="good")
    assert expected["skipped"] == [] and 0 < expected["metrics"]["acc/top5"] < 1
    cfg.test_dataloader.dataset.ann_file = "videos.txt"
    cfg.test_dataloader.num_workers = num_workers
    found = run_test(root, cfg, checkpoint, "--out", str(root / "all.pkl"))
    assert found["metrics"] == expected["metrics"]
    assert found["skipped"] == sorted(str(root / "videos" / name) for name in BAD)
    assert_named_once(root, "test", "evaluation")
    predictions = [pickle.loads((root / name).read_bytes()) for name in ("all.pkl", "good.pkl")]
    assert len(predictions[0]) == len(predictions[1]) == 6
    for one, other in zip(*predictions):
        torch.testing.assert_close(one["pred_score"], other["pred_score"])


def test_evaluations_within_a_training(root):
    spoil(root)
    cfg = config(root)
    cfg.train_dataloader.dataset.ann_file = "good.txt"
    results = run_train(root, cfg)
    assert results["skipped"] == sorted(str(root / "videos" / name) for name in BAD)
    assert "acc/top1" in results["metrics"]


def test_stand_ins(root):
    """A set keeps its length, which the processes of a distributed run share out among them."""
    spoil(root)
    dataset = config(root).test_dataloader.dataset
    with DefaultScope.overwrite_default_scope("mmaction"):
        dataset = DATASETS.build(dataset)
        metric = METRICS.build(dict(type="AccMetric"))
    bad_data._Guard().take(dataset)
    metric = stand_ins.WithoutStandIns(metric)
    names = []
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"].to_dict()
        names.append(sample.get("stands_in_for"))
        metric.process(None, [dict(sample, pred_score=torch.eye(8)[index % 8])])
    paths = [str(root / "videos" / name) for name in BAD]
    assert names == [None] * 3 + paths + [None] * 3
    # Of the good ones, in places 0 to 2 and 8 to 10, with labels 0 to 5, the first three are right.
    assert len(metric.results) == 11
    assert metric.evaluate(11)["acc/top1"] == pytest.approx(3 / 6)
    assert metric.skipped == sorted(paths)


@workers
def test_training_ends_where_nothing_can_be_read(root, capfd, num_workers, monkeypatch):
    """Some can't be opened, some can't be decoded: together they are too many in a row."""
    monkeypatch.setattr(unreadable, "MAX_IN_A_ROW", 5)
    content = damaged((root / "videos" / "0.mp4").read_bytes(), 0.05)
    for index in range(6):
        (root / "videos" / f"{index}.mp4").write_bytes(content if index % 2 else b"not a video")
    cfg = config(root)
    cfg.train_dataloader.num_workers = num_workers
    line = fails(capfd, run_train, root, cfg)
    assert line.startswith(f"error: 6 videos in a row can't be read; {root / 'videos'}")
    assert line.endswith("can't be read as a video: it is damaged or of another format")


def test_any_number_in_a_row_may_be_left_out_of_an_evaluation(root, checkpoint, monkeypatch):
    """A list is often in the order of its classes, of which one may lack all its videos."""
    monkeypatch.setattr(unreadable, "MAX_IN_A_ROW", 2)
    write_list(root, [("0.mp4", 0), *((f"absent_{index}.mp4", 1) for index in range(5)), ("1.mp4", 2)])
    assert len(run_test(root, config(root), checkpoint)["skipped"]) == 5


@workers
def test_an_evaluation_of_nothing(root, checkpoint, capfd, num_workers):
    for index in range(6):
        (root / "videos" / f"{index}.mp4").write_text("not a video")
    cfg = config(root)
    cfg.test_dataloader.num_workers = num_workers
    line = fails(capfd, run_test, root, cfg, checkpoint)
    assert line == f"error: none of the 6 videos that {root / 'videos.txt'} lists can be read"


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_videos_missing(root, split):
    shutil.rmtree(root / "videos")
    (root / "videos").mkdir()
    line = small.refused(config(root), split)
    first = root / "videos" / "0.mp4"
    assert line.startswith(f"{first} and 5 more of the videos that {root / 'videos.txt'} lists: no such")


def test_names_without_a_suffix(root, checkpoint):
    """mmaction's openers take .mp4 for granted."""
    write_list(root, [(str(index), index) for index in range(6)])
    assert run_test(root, config(root), checkpoint)["skipped"] == []


LISTS = [
    (None, "is missing: put the data set there"),
    ("", "videos.txt lists no video"),
    ("0.mp4 1\n\n1.mp4 2\n", "videos.txt, line 2: expected a path and a label, separated by"),
    ("0.mp4 1\n1.mp4\n", "line 2: expected a path and a label"),
    ("0.mp4 1\na clip.mp4 2\n", "line 2: expected a path and a label"),
    (
        "0.mp4 one\n",
        "line 1: expected a path and a label, separated by the data set's delimiter ' '",
    ),
    ("0.mp4,1\n", "line 1: expected a path and a label"),
    (
        "0.mp4 1\n1.mp4 8\n",
        "line 2: the label 8 is not in 0..7: correct it or the config's model.cls_head",
    ),
    ("0.mp4 -1\n", "line 1: the label -1 is negative"),
    (b"\xff\xfe\x00", "videos.txt is not a text file in UTF-8"),
    (b"\xef\xbb\xbf0.mp4 1\n", "videos.txt begins with a byte order mark: save it as UTF-8 without one"),
    ("0.mp4 " + "9" * 5000, "line 1: expected a path and a label"),
]


@pytest.mark.parametrize(("content", "said"), LISTS)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_lists(root, content, said, split):
    path = root / "videos.txt"
    if content is None:
        path.unlink()
    elif isinstance(content, str):
        path.write_text(content)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError) as stop:
        check_data(config(root), (split,))
    assert str(path) in str(stop.value) and said in str(stop.value)


def test_lists_that_are_right(root, checkpoint):
    cfg = config(root)
    cfg.test_dataloader.dataset.delimiter = ","
    shutil.move(root / "videos" / "0.mp4", root / "videos" / "a clip.mp4")
    (root / "videos.txt").write_text("a clip.mp4,1\n1.mp4,0")
    assert run_test(root, cfg, checkpoint)["skipped"] == []


def test_a_metric_that_needs_all():
    class Sum(BaseMetric):
        default_prefix = "sum"

        def process(self, data_batch, data_samples):
            self.results.append(len(data_samples))

        def compute_metrics(self, results):
            return {"sum": sum(results)}

    metric = stand_ins.WithoutStandIns(Sum())
    metric.process(None, [{}, {}])
    assert metric.evaluate(2) == {"sum/sum": 2}
    with pytest.raises(unreadable.UnreadableFile, match=r"a\.mp4 can't be read, but Sum needs it"):
        metric.process(None, [{}, {"stands_in_for": "a.mp4"}])


@pytest.fixture
def real_set(real_data, tmp_path):
    """The real videos, one of them cut short as well, and a text file."""
    folder = tmp_path / "videos"
    folder.mkdir()
    names = ["demo", "demo_spatiotemporal_det", "part_0", "test"]
    for name in names:
        shutil.copyfile(real_data / "videos" / f"{name}.mp4", folder / f"{name}.mp4")
    content = (folder / "part_0.mp4").read_bytes()
    (folder / "short.mp4").write_bytes(content[: len(content) // 2])
    (folder / "text.mp4").write_text("not a video\n")
    good = [(f"{name}.mp4", label) for label, name in enumerate(names)]
    write_list(tmp_path, good, "good.txt")
    write_list(tmp_path, [good[0], ("short.mp4", 5), *good[1:], ("text.mp4", 6)])
    return tmp_path


@pytest.mark.parametrize("decoder", ["mmaction", "attn_mm"])
def test_real_videos(real_set, decoder):
    """A few steps of training and an evaluation, with the bad ones in both."""
    cfg = config(real_set, decoder)
    cfg.train_dataloader.dataset.pipeline[1].update(clip_len=8, frame_interval=4)
    results = run_train(real_set, cfg)
    assert results["iteration"] == 3 and 0 <= results["metrics"]["acc/top5"] <= 1
    bad = [str(real_set / "videos" / name) for name in ("short.mp4", "text.mp4")]
    assert results["skipped"] == bad
    (record,) = (real_set / "work").glob("*/*.log")
    text = record.read_text()
    assert [text.count(f"{path} can't be read as a video") for path in bad] == [1, 1]
    cfg.test_dataloader.dataset.ann_file = "good.txt"
    good = run_test(real_set, cfg, str(real_set / "work" / "epoch_1.pth"))
    assert good["metrics"]["acc/top1"] in (0, 0.25, 0.5, 0.75, 1) and good["skipped"] == []
