"""Curves from records: epochs by the iterations between them, validations, runs that were resumed."""

from __future__ import annotations

import pytest

from attn_mm.run.curves import join, read_curves


def logged(epochs, length, interval, first=1, value=lambda step: 1 / step):
    """What mmengine logs: every ``interval`` iterations of an epoch, and its end if it is short."""
    records = []
    for epoch in range(first, epochs + 1):
        inner = range(interval, length + 1, interval) if interval <= length else [length]
        for i in inner:
            step = (epoch - 1) * length + i
            records.append(dict(loss=value(step), loss_cls=0.5, time=0.1, epoch=epoch, iter=step, step=step))
        records.append({"accuracy/top1": 10.0 * epoch, "data_time": 0.1, "time": 0.2, "step": epoch})
    return records


@pytest.mark.parametrize(("length", "interval"), [(100, 20), (107, 50), (7, 50), (107, 100)])
def test_iterations_become_epochs(length, interval):
    run = read_curves(logged(4, length, interval))
    assert run.unit == "epoch"
    assert run.figures == {"accuracy/top1": [(e, 10.0 * e) for e in (1, 2, 3, 4)]}
    assert run.losses.keys() == {"loss", "loss_cls"}
    for x, value in run.losses["loss"]:
        assert x == pytest.approx(1 / value / length, rel=1e-12)


def test_one_epoch_ends_with_its_last_line():
    run = read_curves(logged(1, 100, 20))
    assert [x for x, _ in run.losses["loss"]] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_runs_without_epochs():
    records = [dict(loss=3.0, step=10), dict(loss=2.0, step=20), {"mAP": 0.1, "step": 20}]
    run = read_curves(records)
    assert run.unit == "iteration"
    assert run.losses["loss"] == [(10, 3.0), (20, 2.0)] and run.figures["mAP"] == [(20, 0.1)]


def test_a_resumed_run_goes_on_where_its_checkpoint_was():
    whole = logged(4, 10, 5)
    # Interrupted in the third epoch, resumed from the second's checkpoint.
    first, second = logged(2, 10, 5) + logged(3, 10, 5, first=3)[:1], logged(4, 10, 5, first=3)
    assert join([first, second]) == whole
    assert read_curves(join([first, second])) == read_curves(whole)


def test_a_run_that_was_begun_again_replaces_the_first():
    first, second = logged(3, 10, 5, value=lambda step: 99.0), logged(2, 10, 5)
    assert join([first, second]) == second


def test_a_test_alone_adds_to_what_there_is():
    tested = [{"accuracy/top1": 50.0, "step": 0}]
    assert join([logged(1, 10, 5), tested]) == logged(1, 10, 5) + tested


def test_without_a_loss():
    with pytest.raises(ValueError, match="no loss is logged"):
        read_curves([{"accuracy/top1": 1.0, "step": 1}])
