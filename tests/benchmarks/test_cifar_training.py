"""A run: its schedule and optimiser against mmengine's and torch's, and that it can be stopped."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from cifar_runs import advance, same
from mmengine.optim import CosineAnnealingLR, LinearLR

from attn_mm.errors import UserError


def schedulers(optimizer, steps):
    warmup = max(1, steps // 5)
    return [
        LinearLR(optimizer, start_factor=0.01, by_epoch=False, end=warmup),
        CosineAnnealingLR(optimizer, by_epoch=False, begin=warmup, end=steps, T_max=steps - warmup),
    ]


@pytest.mark.parametrize("steps", [10, 14, 316, 1955])
def test_learning_rates_are_those_of_mmengines_schedulers(training, steps):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    both = schedulers(optimizer, steps)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in both:
            scheduler.step()
    assert training.learning_rates(steps) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert max(expected) == pytest.approx(0.1)


def test_a_short_training_has_a_rate_for_each_step(training):
    for steps in range(1, 12):
        rates = training.learning_rates(steps)
        assert len(rates) == steps and max(rates) == pytest.approx(0.1)


def test_steps_are_those_of_torchs_sgd(start, train):
    run, epochs = start(seed=3, epochs=5), 5
    model = copy.deepcopy(run._model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    both, losses = schedulers(optimizer, 2 * epochs), []
    draw = torch.Generator().manual_seed(3)
    for _ in range(epochs):
        order = torch.randperm(130, generator=draw)
        offsets = torch.randint(9, (130, 2), generator=draw)
        flips = torch.rand(130, generator=draw) < 0.5
        torch.randint(2**62, (), generator=draw)
        total = 0.0
        for part in torch.arange(130).split(128):
            x = train.augmented(order[part], offsets[part], flips[part])
            loss = F.cross_entropy(model(x, mode="tensor"), train.labels[order[part]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for scheduler in both:
                scheduler.step()
            total += loss.item() * len(part) / 130
        losses.append(total)
    advance(run, epochs)
    assert run.sizes == [128, 2] and run.losses == pytest.approx(losses, rel=1e-4)
    for ours, theirs in zip(run._model.state_dict().values(), model.state_dict().values()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{}, dict(amp=True, channels_last=True)])
def test_a_resumed_run_ends_with_the_same_weights(training, start, tmp_path, options):
    whole = start(dropout=0.5, **options)
    advance(whole, 3)
    first = start(dropout=0.5, **options)
    advance(first)
    first.seconds = 2.5
    training.save_state(first, tmp_path / "run.pth", about="a recipe")
    torch.rand(7)
    rest = start(dropout=0.5, **options)
    assert training.load_state(rest, tmp_path / "run.pth")["about"] == "a recipe"
    assert (rest.epoch, rest.seconds) == (1, 2.5)
    advance(rest, 2)
    assert rest.finished and same(rest, whole)
    other = start(seed=1, dropout=0.5, **options)
    advance(other, 3)
    assert other.losses != whole.losses


def test_amp_is_bfloat16(start):
    run, exact = start(amp=True), start()
    x = torch.randn(4, 3, 32, 32)
    difference = (run._logits(x) - exact._logits(x)).abs().max()
    assert 0 < difference < 0.1 and run._logits(x).dtype == torch.float32
    assert run.state()["weights"]["conv.weight"].dtype == torch.float32


def test_accuracy_counts_every_image(start, train):
    run = start()
    run._model.eval()
    scores = run._model(train.whole(0, 130), mode="tensor")
    assert run.accuracy(train) == pytest.approx(100 * (scores.argmax(1) == train.labels).sum().item() / 130)
    assert run._model.training


def test_a_damaged_state_and_a_diverged_run_are_one_line(training, start, tmp_path):
    path = tmp_path / "run.pth"
    for content in (b"", b"no state", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"is damaged or of another network .*: remove it to start"):
            training.load_state(start(), path)
    torch.save({"weights": {}}, path)
    with pytest.raises(UserError, match="is damaged or of another network"):
        training.load_state(start(), path)
    run = start()
    with torch.no_grad():
        run._model.linear.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="tiny_0: the loss is nan in epoch 1, the training diverged"):
        advance(run)
