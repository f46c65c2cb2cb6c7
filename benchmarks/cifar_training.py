"""The recipe of the CIFAR-10 benchmark, and one network that trains by it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.errors import UserError, one_line
from attn_mm.run.cpu import prefer_channels_last
from attn_mm.utils.files import write_checkpoint
from benchmarks.cifar_data import PADDING, Batches

BATCH_SIZE = 128
PEAK, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4


def learning_rates(steps: int) -> list[float]:
    """The learning rate of each step: up to the peak in the first fifth, down to 0 along a cosine."""
    warmup = max(1, steps // 5)
    # A single step has no way up.
    up = [PEAK * (0.01 + 0.99 * i / (warmup - 1)) for i in range(warmup)] if warmup > 1 else [PEAK]
    down = [PEAK * (1 + math.cos(math.pi * i / (steps - warmup))) / 2 for i in range(steps - warmup)]
    return up + down


class Run:
    """A network in training.

    A step takes no argument but its size, and doesn't wait for the device: what differs from step to step
    is in tensors on the device, so that a CUDA graph of one step can be replayed for all.

    Args:
        name: of the run, for messages.
        model: the network with its first weights; in mode ``"tensor"`` it returns logits.
        train: the training images.
        epochs: passes over them.
        seed: decides the order of the images and their augmentation.
        amp: whether the forward pass is autocast to bfloat16.
        channels_last: layout of the weights.

    Attributes:
        epochs: as given.
        epoch: finished epochs.
        losses: the mean loss of each finished epoch.
        seconds: how long these took.
        sizes: the size of each step of an epoch.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        train: Batches,
        epochs: int,
        seed: int,
        amp: bool = False,
        channels_last: bool = False,
    ) -> None:
        device = train.labels.device
        if channels_last:
            prefer_channels_last(model)
        self._model = model.to(device).train()
        self._name, self._train, self._amp = name, train, amp
        self.epochs, self.epoch, self.seconds = epochs, 0, 0.0
        self.losses: list[float] = []
        count = len(train)
        self.sizes = [min(BATCH_SIZE, count - start) for start in range(0, count, BATCH_SIZE)]
        # On the CPU whatever the device is, so that all devices see the same images.
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.zeros(count, dtype=torch.long, device=device)
        self._offsets = torch.zeros(count, 2, dtype=torch.long, device=device)
        self._flips = torch.zeros(count, dtype=torch.bool, device=device)
        self._loss = torch.zeros((), device=device)
        self._step = torch.zeros(1, dtype=torch.long, device=device)
        self._places = torch.arange(BATCH_SIZE, device=device)
        self._rates = torch.tensor(learning_rates(epochs * len(self.sizes)), device=device)
        self._rate = self._rates[0].clone()
        # The fused form reads a learning rate on the device; others would wait for it.
        self._optimizer = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad],
            lr=self._rate,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )
        # From zero the first step is the same as without, and no later step is another.
        for p in self._parameters:
            self._optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return self._optimizer.param_groups[0]["params"]

    @property
    def _momenta(self) -> list[Tensor]:
        return [self._optimizer.state[p]["momentum_buffer"] for p in self._parameters]

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self._model.parameters())

    @property
    def finished(self) -> bool:
        return self.epoch >= self.epochs

    def begin_epoch(self) -> None:
        """Draw the order of the images and their augmentation, and a seed for dropout."""
        draw, count = self._generator, len(self._train)
        self._order.copy_(torch.randperm(count, generator=draw))
        self._offsets.copy_(torch.randint(2 * PADDING + 1, (count, 2), generator=draw))
        self._flips.copy_(torch.rand(count, generator=draw) < 0.5)
        torch.manual_seed(int(torch.randint(2**62, (), generator=draw)))
        self._step.fill_(self.epoch * len(self.sizes))
        self._loss.zero_()

    def step(self, size: int) -> None:
        """Train on the next ``size`` images of the epoch."""
        at = self._step % len(self.sizes) * BATCH_SIZE + self._places[:size]
        index = self._order[at]
        x = self._train.augmented(index, self._offsets[at], self._flips[at])
        self._optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self._logits(x), self._train.labels[index])
        loss.backward()
        self._rate.copy_(self._rates.index_select(0, self._step)[0])
        self._optimizer.step()
        self._loss += loss.detach() * (size / len(self._train))
        self._step += 1

    def end_epoch(self) -> None:
        """Wait for the steps and count the epoch.

        Raises:
            UserError: the loss isn't finite.
        """
        loss = self._loss.item()
        if not math.isfinite(loss):
            raise UserError(
                f"{self._name}: the loss is {loss} in epoch {self.epoch + 1}, the training diverged"
            )
        self.losses.append(loss)
        self.epoch += 1

    def _logits(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._amp):
            return self._model(x, mode="tensor").float()

    @torch.no_grad()
    def accuracy(self, test: Batches) -> float:
        """Top-1 accuracy on the test images in percent."""
        self._model.eval()
        right = torch.zeros((), dtype=torch.long, device=test.labels.device)
        for start in range(0, len(test), 500):
            scores = self._logits(test.whole(start, start + 500))
            right += (scores.argmax(1) == test.labels[start : start + 500]).sum()
        self._model.train()
        return 100 * right.item() / len(test)

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs to go on from the end of an epoch, in copies on the CPU."""
        return {
            "weights": {name: _copied(value) for name, value in self._model.state_dict().items()},
            "momenta": [_copied(value) for value in self._momenta],
            "generator": self._generator.get_state(),
            "epoch": self.epoch,
            "losses": list(self.losses),
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state, in the same memory."""
        self._model.load_state_dict(state["weights"])
        with torch.no_grad():
            for mine, saved in zip(self._momenta, state["momenta"], strict=True):
                mine.copy_(saved)
        self._generator.set_state(state["generator"])
        self.epoch, self.losses, self.seconds = state["epoch"], list(state["losses"]), state["seconds"]


def _copied(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True)


def save_state(run: Run, path: Path, **more: Any) -> None:
    """Write the state of a run and ``more`` values, completely or not at all."""
    write_checkpoint(run.state() | more, path)


def load_state(run: Run, path: Path) -> dict[str, Any]:
    """Let a run go on from a file, and return what it holds.

    Raises:
        UserError: the file is damaged or of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        run.load_state(state)
    except Exception as error:
        # What is wrong with a file decides where torch fails, and how.
        raise UserError(
            f"{path} is damaged or of another network ({one_line(str(error))[:60]}): remove it to start "
            "that run again"
        ) from error
    return state
