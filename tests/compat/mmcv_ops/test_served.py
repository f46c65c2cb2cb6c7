"""What is served as ``mmcv._ext``, when, and what those who look for it find."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader

import pytest
import torch
from torch import nn

from attn_mm.compat import mmcv_ops
from attn_mm.compat.lazy import MissingModules

mmcv = pytest.importorskip("mmcv")


def test_a_compiled_module_wins(compiled):
    loader = importlib.import_module("mmcv._ext").__loader__
    assert isinstance(loader, MissingModules) is not compiled


def test_a_module_on_mmcvs_path_wins(monkeypatch, tmp_path):
    (tmp_path / "_ext.py").write_text("")
    monkeypatch.setattr(mmcv, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    assert isinstance(importlib.util.find_spec("mmcv._ext").loader, SourceFileLoader)


def test_every_wrapper_imports():
    ops = importlib.import_module("mmcv.ops")
    assert all(hasattr(ops, name) for name in ops.__all__)


def test_an_unserved_op_names_itself_and_the_way_out(served_only):
    from mmcv.ops import box_iou_rotated

    boxes = torch.tensor([[4.0, 4.0, 2.0, 2.0, 0.5]])
    with pytest.raises(mmcv_ops.CompiledOpMissing, match="needs a compiled mmcv") as caught:
        box_iou_rotated(boxes, boxes)
    message = str(caught.value)
    assert isinstance(caught.value, NotImplementedError)
    assert message.startswith("box_iou_rotated ")
    assert "\n" not in message
    assert "build mmcv 2.1.0" in message
    assert "docs/install.md" in message


def test_private_names_are_not_ops(served_only):
    assert not hasattr(importlib.import_module("mmcv._ext"), "_no_such_thing")


def test_those_who_ask_for_full_mmcv_find_working_ops():
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version
    from mmcv.utils import collect_env
    from mmcv.utils.ext_loader import check_ops_exist
    from mmengine.utils.dl_utils import mmcv_full_available

    assert check_ops_exist()
    assert mmcv_full_available()
    env = collect_env()
    assert env["MMCV Compiler"] == get_compiler_version()
    assert env["MMCV CUDA Compiler"] == get_compiling_cuda_version()


def test_mmengine_reverts_sync_batchnorm():
    from mmengine.model import revert_sync_batchnorm

    model = revert_sync_batchnorm(nn.Sequential(nn.SyncBatchNorm(3)))
    assert not isinstance(model[0], nn.SyncBatchNorm)
    assert model(torch.ones(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_mmengine_finds_the_offsets_of_deformable_convs():
    from mmcv.ops import DeformConv2dPack
    from mmengine.optim import build_optim_wrapper

    model = nn.Sequential(DeformConv2dPack(2, 2, 3))
    wrapper = build_optim_wrapper(
        model,
        dict(optimizer=dict(type="SGD", lr=1.0), paramwise_cfg=dict(dcn_offset_lr_mult=0.25)),
    )
    rates = {id(p): group["lr"] for group in wrapper.param_groups for p in group["params"]}
    assert rates[id(model[0].weight)] == 1.0
    assert rates[id(model[0].conv_offset.weight)] == 0.25
