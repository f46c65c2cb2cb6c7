"""Cut a map into pieces on which several passes cost little more than one.

On a CPU a piece fits the caches; elsewhere only memory limits it.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

# Elements of one piece, measured with the layers that use it.
_PIECE = {"cpu": 2**20}
_SAMPLES = {"cpu": 2**19}
_LARGE_PIECE = 2**26


def pieces(x: Tensor) -> Iterator[tuple[slice, ...]]:
    """Indices that cut ``x``: several samples each, or some rows if one sample is too large."""
    size, sample = _PIECE.get(x.device.type, _LARGE_PIECE), _elements_of_sample(x)
    if sample <= size:
        yield from ((piece,) for piece in _samples(x, size))
        return
    step = max(1, size // (sample // x.shape[2]))
    for n in range(x.shape[0]):
        for row in range(0, x.shape[2], step):
            yield slice(n, n + 1), slice(None), slice(row, row + step)


def samples(x: Tensor) -> Iterator[slice]:
    """Slices of the batch of ``x``: whole samples, several if they are small."""
    return _samples(x, _SAMPLES.get(x.device.type, _LARGE_PIECE))


def _samples(x: Tensor, elements: int) -> Iterator[slice]:
    step = max(1, elements // _elements_of_sample(x))
    for n in range(0, x.shape[0], step):
        yield slice(n, n + step)


def _elements_of_sample(x: Tensor) -> int:
    return max(1, x.shape[1:].numel())
