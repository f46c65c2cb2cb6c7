"""A run refuses a checkpoint that it can't use, in one line, before it starts."""

import copy

import pytest
import torch
from mmengine.runner import Runner
from small_network import Net, NoMetric

from attn_mm.errors import UserError
from attn_mm.run.loaded import CheckLoaded


def runner(work_dir, testing=False, **options):
    loader = dict(dataset=[dict(x=torch.ones(2) * i) for i in range(4)], batch_size=2, sampler=dict(
        type="DefaultSampler", shuffle=False
    ))  # fmt: skip
    built = Runner(
        model=Net(),
        work_dir=str(work_dir),
        experiment_name=f"{work_dir.name}_{id(options)}",
        train_dataloader=copy.copy(loader),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        test_dataloader=copy.copy(loader),
        test_cfg=dict(),
        test_evaluator=NoMetric(),
        log_level="ERROR",
        **options,
    )
    built.register_hook(CheckLoaded(testing))
    return built


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    runner(folder).train()
    return torch.load(folder / "epoch_1.pth")


def refused(checkpoint, tmp_path, how):
    path = tmp_path / "odd.pth"
    torch.save(checkpoint, path)
    run = runner(tmp_path, how == "test", load_from=str(path), resume=how == "resume")
    with pytest.raises(UserError) as caught:
        run.test() if how == "test" else run.train()
    line = str(caught.value)
    assert "odd.pth" in line and "\n" not in line
    return line


def with_weight(checkpoint, name, value):
    return {**checkpoint, "state_dict": {**checkpoint["state_dict"], name: value}}


def test_a_good_checkpoint_is_used_on_every_way(checkpoint, tmp_path):
    path = tmp_path / "good.pth"
    torch.save(checkpoint, path)
    for how in ("test", "resume", "load_from"):
        run = runner(tmp_path / how, how == "test", load_from=str(path), resume=how == "resume")
        run.test() if how == "test" else run.train()
        assert run._has_loaded


@pytest.mark.parametrize("how", ["test", "resume", "load_from"])
def test_the_weights_of_another_network(checkpoint, tmp_path, how):
    line = refused({**checkpoint, "state_dict": {"head.weight": torch.ones(2)}}, tmp_path, how)
    assert ("lacks 6 of the model's 6 parameters" if how != "load_from" else "none of the 1 weights") in line


@pytest.mark.parametrize("how", ["test", "resume", "load_from"])
@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_weights_that_are_no_numbers(checkpoint, tmp_path, how, bad):
    odd = with_weight(checkpoint, "backbone.0.bias", torch.tensor([1.0, float(bad), float(bad)]))
    assert "2 of 3 numbers in backbone.0.bias are NaN or infinite" in refused(odd, tmp_path, how)


def test_an_infinite_buffer_is_a_mask(checkpoint, tmp_path):
    odd = with_weight(checkpoint, "backbone.1.running_mean", torch.tensor([0.0, 0.0, float("-inf")]))
    torch.save(odd, tmp_path / "odd.pth")
    runner(tmp_path, True, load_from=str(tmp_path / "odd.pth")).test()
