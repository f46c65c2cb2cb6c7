"""Shared by all tests: upstream patches before any framework is imported, one thread, fixed seeds."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import attn_mm  # noqa: F401

torch.set_num_threads(1)
# Collections of garbage are a twentieth of the tests' time at Python's own threshold of 700.
gc.set_threshold(10_000, 20)


def pytest_collection_modifyitems(config, items):
    """Leave what is marked ``whole`` to ``uvx nox -s whole_matrix``."""
    if "ATTN_MM_WHOLE_MATRIX" not in os.environ:
        whole = [item for item in items if item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=whole)
        items[:] = [item for item in items if not item.get_closest_marker("whole")]


_seen = 0


@pytest.fixture(autouse=True)
def little_garbage():
    """Imported objects are no garbage: leave them out of every collection."""
    global _seen
    if len(sys.modules) > _seen:
        _seen = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def fixed_seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repo() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory) -> Path:
    """A folder that the processes of a session share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def benchmark_file(repo):
    """A function from the name of a file of ``benchmarks/`` to its module."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, repo / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        # A dataclass looks its module up there.
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; tests that need it skip where it is not named."""
    if "ATTN_MM_DATA" not in os.environ:
        pytest.skip("ATTN_MM_DATA names no folder of real data")
    return Path(os.environ["ATTN_MM_DATA"])


@pytest.fixture(scope="session")
def coco_tiny(real_data: Path) -> Path:
    return real_data / "coco_tiny"


@pytest.fixture(autouse=True)
def quick_runs(monkeypatch):
    """Runs without what takes most of a short one's time: the config's layout, a report of the machine."""
    monkeypatch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, False))
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)
    # mmengine collects garbage whenever it builds a data set: slow among all imported objects.
    monkeypatch.setattr("mmengine.dataset.base_dataset.gc", SimpleNamespace(collect=int))


@pytest.fixture(autouse=True)
def whole_lines(monkeypatch):
    """Errors are not cut: the length of a test's folder must not decide what is left of a path."""
    monkeypatch.setattr("attn_mm.errors._LONGEST", 10_000)


@pytest.fixture
def workers_gone():
    """The loading processes of a run that failed end with its test: torch tells of their end in the next."""
    yield
    with contextlib.suppress(RuntimeError):
        gc.collect()


@pytest.fixture
def small_demos(monkeypatch, tmp_path_factory):
    """Demos on a few images or videos: the whole generated sets are some seconds' work."""
    from attn_mm.frameworks.mmaction import demo as action
    from attn_mm.frameworks.mmdet import demo as detection
    from attn_mm.frameworks.mmpose import demo as pose
    from attn_mm.frameworks.mmpretrain import demo as classification
    from attn_mm.frameworks.mmpretrain import multilabel_demo as multilabel
    from attn_mm.frameworks.mmseg import demo as segmentation

    root = tmp_path_factory.getbasetemp() / "cache"
    shapes, persons, motions = detection.make_shapes, pose.make_persons, action.make_motions
    pictures, label_maps = classification.make_pictures, segmentation.make_label_maps
    for demo in (detection, multilabel):
        monkeypatch.setattr(demo, "make_shapes", lambda **size: shapes(root, num_train=8, num_val=6, **size))
    monkeypatch.setattr(pose, "make_persons", lambda num_train: persons(root, num_train=4, num_val=6))
    monkeypatch.setattr(action, "make_motions", lambda **size: motions(root, num_train=4, num_val=6, **size))
    monkeypatch.setattr(
        segmentation, "make_label_maps", lambda **size: label_maps(root, num_train=8, num_val=6, **size)
    )
    monkeypatch.setattr(
        classification, "make_pictures", lambda **size: pictures(root, num_train=8, num_val=6, **size)
    )


@pytest.fixture
def log():
    """The lines that mmengine's logger gets while the test runs."""
    lines = []

    class Listener(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    from mmengine.logging import MMLogger

    logger, listener = MMLogger.get_current_instance(), Listener()
    logger.addHandler(listener)
    yield lines
    logger.removeHandler(listener)
