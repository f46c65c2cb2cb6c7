"""``import attn_mm`` is light, ``type='attn_mm.X'`` resolves everywhere, and the configs are sound."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

ROOT = Path(__file__).parents[1]
FRAMEWORKS = ("mmdet", "mmpose", "mmaction", "mmpretrain")


def python(code):
    """Run ``code`` in a fresh interpreter that has imported nothing, away from the checkout."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_first_mention_of_a_type_imports_the_package_and_no_framework():
    code = f"""
import sys
from mmengine.registry import MODELS

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {(*FRAMEWORKS, "mmcv", "torchvision", "pycocotools")}:
            raise ImportError(f"{{name}} was imported")

sys.meta_path.insert(0, Refuse())
assert "attn_mm" not in sys.modules
print(MODELS.get("attn_mm.TDAF").__module__, "attn_mm.compat" in sys.modules)
"""
    assert python(code).split() == ["attn_mm.models.attn_backbone", "True"]


@pytest.mark.parametrize("framework", ["mmengine", *FRAMEWORKS])
def test_the_type_resolves_from_every_scope(framework):
    registry = pytest.importorskip(f"{framework}.registry").MODELS
    from attn_mm.models.attn_backbone import tdaf

    assert registry.get("attn_mm.TDAF") is tdaf
    if framework != "mmengine":
        with DefaultScope.overwrite_default_scope(framework):
            assert registry.get("attn_mm.TDAF") is tdaf
            assert registry.get("TDAF") is None, "a name without its scope must stay the framework's"


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.py")), ids=lambda p: p.stem)
def test_configs_load_dump_and_reload(path, tmp_path):
    pytest.importorskip("mmdet")
    config = Config.fromfile(path)
    config.dump(tmp_path / "dumped.py")
    again = Config.fromfile(tmp_path / "dumped.py")
    assert again.to_dict() == config.to_dict()
    assert not config.get("custom_imports")
    if "tdaf" in path.stem:
        assert again.model.backbone.type == "attn_mm.TDAF"
        assert again.model.backbone.backbone.type == "ResNet"
