"""What of the log and of the prints reaches the screen."""

from __future__ import annotations

import contextlib
import io
import logging

import pytest
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from attn_mm.run.screen.messages import Printed, show_on
from attn_mm.utils.progress import console_of


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def logger(tmp_path, screen, request):
    logger = MMLogger.get_instance(request.node.nodeid, log_file=str(tmp_path / "run.log"))
    show_on(logger, console_of(screen))
    yield logger
    for handler in logger.handlers:
        handler.close()
    # Otherwise it would be the current logger of the tests that follow.
    MMLogger._instance_dict.pop(request.node.nodeid)


def test_the_screen_gets_what_is_worth_it_and_the_file_all(logger, screen, tmp_path):
    deprecated = '"FileClient" will be deprecated in future. Please use io functions'
    logger.info("Config:\na = 1")
    logger.info("AttnResNet: 265 of 440 keys loaded, 175 new (layer1.0.attn)")
    logger.info("resumed epoch: 3, iter: 300")
    logger.warning(deprecated)
    logger.warning("2 of 5 boxes of [a](b).jpg have no area :warning:")
    logger.warning("2 of 5 boxes of [a](b).jpg have no area :warning:")
    logger.error("it fails")
    assert screen.getvalue().splitlines() == [
        "AttnResNet: 265 of 440 keys loaded, 175 new (layer1.0.attn)",
        "resumed epoch: 3, iter: 300",
        "warning: 2 of 5 boxes of [a](b).jpg have no area :warning:",
        "error: it fails",
    ]
    kept = (tmp_path / "run.log").read_text()
    for text in ("Config:\na = 1", "keys loaded", deprecated, "no area", "it fails"):
        assert text in kept


def test_another_screen_takes_the_place_of_the_first(logger, screen):
    other = io.StringIO()
    show_on(logger, console_of(other))
    logger.warning("only once")
    assert screen.getvalue() == "" and other.getvalue() == "warning: only once\n"


def test_later_processes_say_only_what_is_wrong(logger, screen, monkeypatch):
    monkeypatch.setattr("attn_mm.run.screen.messages.get_rank", lambda: 1)
    show_on(logger, console_of(screen))
    logger.warning("everyone warns")
    logger.error("one fails")
    assert screen.getvalue() == "error: one fails\n"


def test_a_screen_that_is_closed_does_not_end_the_run(logger, screen, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    screen.close()
    logger.warning("nobody reads this")


def test_what_pycocotools_prints_goes_to_the_log(logger, screen, tmp_path):
    box = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 8, 8], area=64, iscrowd=0)
    images, categories = [dict(id=1, width=16, height=16)], [dict(id=1, name="a")]
    with contextlib.redirect_stdout(Printed(console_of(screen))) as printed:
        coco = COCO()
        coco.dataset = dict(images=images, annotations=[box], categories=categories)
        coco.createIndex()
        found = coco.loadRes([dict(image_id=1, category_id=1, bbox=[0, 0, 8, 8], score=0.9)])
        judged = COCOeval(coco, found, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
        print("Loads checkpoint by local backend from path: epoch_1.pth")
        print("a hook's own words [bold] :smile:")
        print("a ques", end="")
        print("tion? ", end="", flush=True)
    printed.flush()
    assert screen.getvalue() == "a hook's own words [bold] :smile:\na question? "
    kept = (tmp_path / "run.log").read_text()
    assert "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000" in kept


def test_of_a_bar_that_draws_itself_again_the_last_state_is_shown(screen):
    printed = Printed(console_of(screen))
    for done in range(3):
        print(f"\r[{'>' * done}] {done}/2", end="", flush=True, file=printed)
    print(file=printed)
    print("next", file=printed)
    assert screen.getvalue() == "[>>] 2/2\nnext\n"


@pytest.mark.parametrize(
    ("text", "shown"), [("done", "done\n"), ("done\n", "done\n"), ("", ""), ("\ra bar", "a bar\n")]
)
@pytest.mark.parametrize("flushed", [False, True])
def test_what_follows_begins_a_line(screen, text, shown, flushed):
    printed = Printed(console_of(screen))
    print(text, end="", file=printed, flush=flushed)
    printed.finish()
    assert screen.getvalue() == shown


def test_whoever_writes_bytes_finds_the_stream_behind(tmp_path):
    with open(tmp_path / "out.txt", "w") as file:
        printed = Printed(console_of(file))
        assert printed.writable() and printed.buffer is file.buffer
        printed.reconfigure(line_buffering=True)
        assert file.line_buffering
