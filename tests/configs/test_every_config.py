"""Every config builds with its metafile's parameters; one of each network, attention, set trains a step."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import pytest
from counted import is_counted
from mmengine.runner import Runner
from small import narrow, shorten

from attn_mm.describe.build import build
from attn_mm.describe.complexity import count_config
from attn_mm.describe.counting import count_parameters
from attn_mm.frameworks.demo import to_demo
from attn_mm.frameworks.forwards import input_shape
from attn_mm.papers.metafile import Entry, folders, read_metafile
from attn_mm.utils.config import datasets, load_config, walk
from attn_mm.utils.config_names import CONFIGS

ENTRIES = [entry for folder in folders() for entry in read_metafile(folder).entries]
FREEZING = ("frozen_stages", "norm_eval", "norm_cfg")
OPTIONS = ("attention", "conv_cfg")
"""With which necks have attention."""
SIZES = ("frozen_stages", "norm_eval", "mean", "std", "num_classes", "topk")
UNITS = ("first_pool", "compatibility")
"""Options that the tests of their networks try."""


def freeze_again(demo, own):
    """A demo trains everything; what is frozen in the config itself is to be frozen here."""
    if isinstance(own, dict) and isinstance(demo, dict):
        demo.update({key: own[key] for key in FREEZING if key in own and key in demo})
        pairs = [(demo[key], own[key]) for key in demo if key in own]
    elif isinstance(own, (list, tuple)) and isinstance(demo, (list, tuple)):
        pairs = zip(demo, own)
    else:
        return
    for pair in pairs:
        freeze_again(*pair)


def body(node, key: str = ""):
    """``node`` without its sizes: networks that differ in these alone meet the same code."""
    if isinstance(node, dict):
        return {k: body(value, k) for k, value in node.items() if k not in (*SIZES, *UNITS)}
    if isinstance(node, (list, tuple)):
        return sorted({json.dumps(body(value), default=str, sort_keys=True) for value in node})
    if key == "depth":
        return "basic" if node in (18, 34) else "bottleneck"
    return 0 if type(node) in (int, float) else node


def without(node, names):
    """``node`` without the entries of these names, at any depth."""
    if isinstance(node, dict):
        return {key: without(value, names) for key, value in node.items() if key not in names}
    if isinstance(node, (list, tuple)):
        return [without(value, names) for value in node]
    return node


def taken_apart(model) -> tuple[dict, list[str]]:
    """A network without its attention, and the kinds of attention in its backbone and neck."""
    network, attention = dict(model), []
    for name in ("backbone", "neck"):
        part = model.get(name) or {}
        while name in part:
            attention += kinds(name, without(part, (name,)))
            part = part[name]
        if name == "neck" and isinstance(part, dict):
            attention += kinds(name, {key: part[key] for key in OPTIONS if key in part})
            part = without(part, OPTIONS)
        network[name] = part
    return network, attention


def kinds(name: str, node) -> list[str]:
    return [f"{name} {inner['type']}" for inner in walk(node) if "type" in inner]


def parts(cfg) -> dict[str, object]:
    """What a step of training depends on, but for sizes: the network, its attention, how the data is read.

    The options of a graft, on every backbone, are the matter of tests/models/test_attn_backbone.py.
    """
    network, attention = taken_apart(cfg.model)
    normalised = (cfg.get("data_preprocessor") or {}).get("type")
    data = [cfg.train_dataloader, cfg.test_dataloader, cfg.test_evaluator, normalised]
    return dict(
        network=[cfg.default_scope, body(network)],
        data=without(data, ("data_root", "ann_file", "batch_size", "num_workers")),
        **dict.fromkeys(attention),
    )


def seen_before(folder: Path, part: str, content) -> bool:
    """Whether any process of this session has had this content; it has from now on."""
    text = json.dumps(content, default=str, sort_keys=True)
    try:
        (folder / f"{part}-{hashlib.sha256(text.encode()).hexdigest()}").touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def load(entry: Entry):
    cfg = load_config(str(CONFIGS.parent / entry.config))
    pytest.importorskip(f"{cfg.default_scope}.models")
    return cfg


def to_its_demo(cfg):
    """The demo of a config, with what the config itself freezes."""
    own = copy.deepcopy(cfg.model)
    to_demo(cfg)
    freeze_again(cfg.model, own)
    return cfg


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.config)
def test_builds_and_trains_if_it_is_new(entry, tmp_path, session_folder, small_demos, monkeypatch):
    cfg = load(entry)
    if not is_counted(entry):
        assert count_parameters(build(cfg, "meta")).params == entry.parameters
    to_its_demo(cfg)
    known = [seen_before(session_folder, part, content) for part, content in parts(cfg).items()]
    if not all(known):
        shorten(cfg.model, cfg.default_scope, monkeypatch)
        narrow(cfg.model, cfg.default_scope)
        train_and_evaluate(cfg, tmp_path)


def check_multiply_adds(entry):
    cfg = load(entry)
    (total,) = count_config(cfg, input_shape(cfg), 0)
    assert entry.flops in (total.conv, total.full)


@pytest.mark.parametrize("entry", ENTRIES[60::97], ids=lambda entry: entry.config)
def test_multiply_adds_of_some(entry):
    check_multiply_adds(entry)


@pytest.mark.whole
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.config)
def test_multiply_adds(entry):
    check_multiply_adds(entry)


@pytest.mark.whole
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.config)
def test_trains(entry, tmp_path, small_demos):
    train_and_evaluate(to_its_demo(load(entry)), tmp_path)


def train_and_evaluate(cfg, folder):
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.batch_size = 2
        for source in datasets(cfg, [split]):
            source.indices = 2
    for node in walk(cfg.model):
        if "score_thr" in node:
            node.score_thr = 0.0  # an untrained detector is sure of nothing
        if "max_per_img" in node:
            node.max_per_img = min(node.max_per_img, 20)
        if "min_bbox_size" in node:
            node.min_bbox_size = -1  # and its boxes may end before they begin
    cfg.work_dir, cfg.launcher = str(folder), "none"
    runner = Runner.from_cfg(cfg)
    runner.message_hub.update_info("iter", 0)  # as a loop would; resizing of whole batches counts with it
    model = runner.model
    model.init_weights()
    model.train()
    data = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert trained
    for key, p in trained.items():
        assert p.grad is not None and p.grad.isfinite().all(), key
    metrics = runner.test()
    largest = 100 if cfg.default_scope in ("mmpretrain", "mmseg") else 1
    assert all(-1 <= value <= largest for value in metrics.values())
    assert any(value >= 0 for value in metrics.values()), "nothing was evaluated"
