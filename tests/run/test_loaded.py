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


@pytest.mark.parametrize("how", ["test", "resume", "load_from"])
@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("backbone.1.running_var", [1.0, float("inf"), 1.0], "1 of 3 numbers in backbone.1.running_var are"),
        ("backbone.1.running_var", [1.0, -2.0, -1.0], "2 of 3 variances in backbone.1.running_var are neg"),
        ("backbone.1.running_mean", [0.0, float("-inf"), 0.0], "1 of 3 numbers in backbone.1.running_mean"),
        ("backbone.1.weight", [1, 2, 3], "backbone.1.weight has numbers of type int64"),
        ("backbone.1.weight", [True, False, True], "backbone.1.weight has numbers of type bool"),
        ("backbone.1.running_mean", [1j, 0, 0], "backbone.1.running_mean has numbers of type complex64"),
        ("backbone.1.num_batches_tracked", 1.5, "num_batches_tracked has numbers of type float32"),
    ],
)
def test_weights_that_torch_would_load(checkpoint, tmp_path, how, name, value, complaint):
    odd = with_weight(checkpoint, name, torch.tensor(value))
    assert complaint in refused(odd, tmp_path, how)


def test_numbers_too_large_for_the_network(checkpoint, tmp_path):
    odd = with_weight(checkpoint, "backbone.0.bias", torch.tensor([1e300, 0, 0], dtype=torch.float64))
    assert "1 of 3 numbers in backbone.0.bias are NaN or infinite" in refused(odd, tmp_path, "test")


def test_half_precision_is_loaded(checkpoint, tmp_path):
    halves = {k: v.half() if v.is_floating_point() else v for k, v in checkpoint["state_dict"].items()}
    torch.save({**checkpoint, "state_dict": halves}, tmp_path / "half.pth")
    runner(tmp_path, True, load_from=str(tmp_path / "half.pth")).test()


def test_without_statistics_the_outputs_are_others(checkpoint, tmp_path):
    weights = {k: v for k, v in checkpoint["state_dict"].items() if not k.endswith("running_var")}
    line = refused({**checkpoint, "state_dict": weights}, tmp_path, "test")
    assert "it lacks buffers, such as backbone.1.running_var" in line
