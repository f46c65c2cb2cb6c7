"""A run doesn't continue from nonsense, and the error names the checkpoint, not the config."""

from __future__ import annotations

import copy

import pytest
import torch
from small_network import Net

from attn_mm.errors import UserError
from attn_mm.run.loaded import CheckLoaded
from attn_mm.run.runner import ResumableRunner

NAN = float("nan")


def runner(work_dir, **options):
    samples = [dict(x=torch.ones(2) * i) for i in range(4)]
    built = ResumableRunner(
        model=Net(),
        work_dir=str(work_dir),
        experiment_name=f"{work_dir.name}_{id(options)}",
        train_dataloader=dict(
            dataset=samples, batch_size=2, sampler=dict(type="DefaultSampler", shuffle=False)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9)),
        param_scheduler=[dict(type="MultiStepLR", milestones=[2]), dict(type="LinearLR", by_epoch=False)],
        custom_hooks=[dict(type="EMAHook")],
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2)),
        log_level="ERROR",
        **options,
    )
    built.register_hook(CheckLoaded())
    return built


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of the second of three epochs."""
    folder = tmp_path_factory.mktemp("trained")
    runner(folder).train()
    return torch.load(folder / "epoch_2.pth")


def changed(checkpoint, place, value):
    """A copy with another value at a place, such as ``meta.epoch``; without it if the value is ``...``."""
    odd = copy.deepcopy(checkpoint)
    inner, *keys = odd, *place.split("/")
    *path, last = (int(key) if key.isdecimal() else key for key in keys)
    for key in path:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return odd


def resume(checkpoint, folder):
    torch.save(checkpoint, folder / "odd.pth")
    runner(folder, load_from=str(folder / "odd.pth"), resume=True).train()


def test_a_good_checkpoint_is_resumed(checkpoint, tmp_path):
    resume(checkpoint, tmp_path)
    assert (tmp_path / "epoch_3.pth").exists()


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("meta/epoch", [-5, 10**18, 4, True, 2.0, "2", None, ...]),
        ("meta/iter", [-5, 10**18, NAN, [], ...]),
        ("meta/seed", [-1, 2**40, "x", 1.5, {}]),
        ("meta/attn_mm", [3, {}]),
        ("meta/attn_mm/batch", [-1, 3, None]),
        ("meta/attn_mm/validated", [0, "no"]),
        ("meta/attn_mm/random", [{}, [3], [{}], [{"python": 1}], None]),
        ("optimizer", [{}, {"state": {}}, {"state": {}, "param_groups": []}, 3, ...]),
        ("optimizer/state", [{}, [], None]),
        ("optimizer/state/0", [{"momentum_buffer": torch.full((3, 2), NAN)}, 3]),
        ("optimizer/state/x", [{}]),
        ("optimizer/param_groups/0/lr", [NAN, "fast", None, float("inf"), 10**400]),
        ("optimizer/param_groups/0/momentum", [NAN, "x"]),
        ("param_schedulers", [[], {}, 3, [{}, {}], ...]),
        ("param_schedulers/0/last_step", [-7, 10**18, "x", None, NAN]),
        ("param_schedulers/1/base_values", [["x"], [NAN], 3]),
        ("message_hub", [{}, {"log_scalars": 3}, 5, ...]),
        ("message_hub/runtime_info", [None, []]),
        ("message_hub/runtime_info/keep_ckpt_ids", ["x", ["../../x"], 3]),
        ("message_hub/runtime_info/best_ckpt", [3, []]),
        ("message_hub/runtime_info/best_score", [NAN, "x", None]),
        ("message_hub/resumed_keys", [3]),
        ("ema_state_dict/module.backbone.0.bias", [torch.tensor([1.0, NAN, 1.0]), ...]),
        ("ema_state_dict", [{}, 3]),
    ],
)
def test_nonsense_is_not_continued(checkpoint, tmp_path, place, values):
    for value in values:
        with pytest.raises(UserError, match=r"odd\.pth") as caught:
            resume(changed(checkpoint, place, value), tmp_path)
        assert "\n" not in str(caught.value), value
    assert not (tmp_path / "epoch_3.pth").exists()
