"""Files are written completely or not at all, and text is UTF-8 in every locale."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from attn_mm.compat.checkpoints import load_checkpoint_file
from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.datasets.coco_files import read_coco, read_detections
from attn_mm.datasets.media import read_image
from attn_mm.errors import CheckpointError, UserError
from attn_mm.frameworks.mmaction import read_classes
from attn_mm.run.plot_curves import read_log
from attn_mm.run.results import read_metrics
from attn_mm.utils.files import (
    check_checkpoint,
    check_regular,
    natural,
    remove_parts,
    replacing,
    write_atomically,
)
from attn_mm.utils.resumable import Partial


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, "ü")
    assert link.is_symlink() and target.read_bytes() == "ü".encode()


def test_what_a_killed_process_left_is_removed(tmp_path):
    with replacing(tmp_path / "x.pth"):
        assert len(list(tmp_path.glob(".x.pth.*"))) == 1
        remove_parts(tmp_path)
        assert not list(tmp_path.iterdir())
        (tmp_path / f".x.pth.{os.getpid()}.part").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.pth", "nowhere.pth does not exist"),
        ("/", "/ is a folder"),
        ("torchvision://nope", "torchvision has no model 'nope'"),
        ("open-mmlab://nope", "open-mmlab has no model 'nope'"),
        ("s3://bucket/x.pth", "needs the package petrel_client"),
        ("cluster:s3://bucket/x.pth", "needs the package petrel_client"),
        ("ftp://host/x.pth", "ftp:// is unknown"),
        (3, "not by 3"),
    ],
)
def test_checkpoints_that_can_t_be_loaded(path, said):
    with pytest.raises(UserError, match=said):
        check_checkpoint(path)


@pytest.mark.parametrize("path", ["torchvision://resnet50", "open-mmlab://detectron2/resnet50_caffe"])
def test_known_models(path):
    check_checkpoint(path)


def text_calls(tree):
    """Calls that read or write text in the encoding of the locale."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            named = any(keyword.arg == "encoding" for keyword in node.keywords)
            # mmengine's reads a file in that encoding.
            if name == "find_latest_checkpoint":
                yield node
            if name in ("read_text", "write_text") and isinstance(node.func, ast.Attribute) and not named:
                yield node


def test_every_text_file_is_utf_8(repo):
    found = [
        f"{path.relative_to(repo)}:{node.lineno}"
        for path in repo.glob("attn_mm/**/*.py")
        for node in text_calls(ast.parse(Path(path).read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


READERS = {
    "annotations": lambda path: read_coco(str(path)),
    "bboxes": lambda path: read_detections(str(path)),
    "list": lambda path: read_lines(str(path)),
    "log": read_log,
    "metrics": read_metrics,
    "image": read_image,
    "classes": read_classes,
    "partial": lambda path: Partial(path, {}, "--out"),
    "checkpoint": load_checkpoint_file,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_reader_waits_for_a_pipe(reader, pipe):
    with pytest.raises((UserError, CheckpointError), match="a pipe or a device"):
        reader(pipe)


def test_a_device_is_no_file(tmp_path):
    with pytest.raises(UserError, match="a pipe or a device"):
        check_regular("/dev/zero")
    for path in (tmp_path, tmp_path / "missing", __file__):
        check_regular(path)


def test_numbers_in_names_count():
    names = ["img10.png", "img2.png", "a/img3.png", "Img1.png", "10.png", "9.png", "img02.png", "img.png"]
    expected = ["9.png", "10.png", "Img1.png", "a/img3.png", "img02.png", "img2.png", "img10.png", "img.png"]
    assert sorted(names, key=natural) == expected
    assert sorted(map(Path, names), key=natural) == list(map(Path, expected))
