"""Run a network once on an example input, to see what each of its modules gives.

Runs use the meta device, which computes shapes only. Where an operation has no meta version, it
computes on the network's own device. No state of the network changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from attn_mm.graft.grafted import find_record
from attn_mm.graft.restore import Snapshot
from attn_mm.utils.meta_shapes import MetaShapes

Shape = tuple[int, ...]
Outputs = dict[nn.Module, list[Any]]
"""For each module that ran, the output of each call; tensors are replaced by their shapes."""

_IMAGES = ((224, 224), (64, 64), (256, 256), (299, 299))
_CLIPS = ((8, 112, 112), (16, 112, 112), (32, 224, 224))
_COLOURS, _MOST_COLOURS = 3, 4
"""A network whose first convolution has more input channels takes maps, as necks and heads do."""
_FRAMES = 8
"""Networks with temporal shifts over 2D convolutions take the frames of a clip as their batch."""


class CannotRun(ValueError):
    """A network doesn't run on any example input."""


def look_at_outputs(net: nn.Module, watched: Iterable[nn.Module], *inputs: Any) -> Outputs:
    """Run ``net`` in eval mode and collect what the ``watched`` modules give.

    Args:
        net: any network.
        watched: modules of ``net``, or ``net`` itself.
        inputs: arguments of its forward. Without any, images or clips of usual sizes are tried.

    Raises:
        CannotRun: the network fails on all of them.
    """
    return run_on_example(net, watched, *inputs)[0]


def run_on_example(net: nn.Module, watched: Iterable[nn.Module], *inputs: Any) -> tuple[Outputs, tuple]:
    """The same as :func:`look_at_outputs`, and the arguments on which the network ran."""
    watched = list(watched)
    tried = [inputs] if inputs else list(_examples(net))
    error: Exception | None = None
    devices = dict.fromkeys(["meta", str(_device(net))])
    for device in devices:
        # Sizes cost nothing on the meta device, but one that computes needs the smallest.
        for arguments in tried if device == "meta" else sorted(tried, key=_volume):
            try:
                return _run(net, watched, _moved(arguments, device), device), arguments
            # What a network raises on an input that doesn't suit it can be anything.
            except Exception as failure:
                error = failure
    reason = (
        "it has no convolution to tell its input" if error is None else str(error).partition("\n")[0][:80]
    )
    raise CannotRun(f"{type(net).__name__} doesn't run on an example input ({reason})")


def gives_other_maps_in_training(net: nn.Module, *inputs: Any) -> bool:
    """Whether ``net`` is known to return more, fewer or other maps in training mode than in eval mode."""
    moved = _moved(inputs, "meta")
    # Norms of one sample have nothing to train on where a map is a single position.
    pairs = tuple(x.expand(2, *x.shape[1:]) if isinstance(x, Tensor) and len(x) == 1 else x for x in moved)
    try:
        runs = [_run(net, [net], pairs, "meta", training)[net] for training in (True, False)]
    # Some norms train on a device of their own only.
    except Exception:
        return False
    in_training, usual = map(_of_a_sample, runs)
    return in_training != usual


def _of_a_sample(shapes: Any) -> Any:
    """Shapes but for the number of samples: in training TridentNet has three branches of each."""
    if isinstance(shapes, dict):
        return {key: _of_a_sample(value) for key, value in shapes.items()}
    return [_of_a_sample(value) for value in shapes] if isinstance(shapes, list) else shapes[1:]


def _run(
    net: nn.Module, watched: list[nn.Module], inputs: tuple, device: str, training: bool = False
) -> Outputs:
    outputs: Outputs = defaultdict(list)

    def see(module: nn.Module, _: Any, output: Any) -> None:
        outputs[module].append(_shapes(output))

    before = Snapshot(net)
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=cuda), MetaShapes():
            for module in net.modules():
                module.training = training
                if device == "meta":
                    _move_to_meta(module)
            for module in watched:
                module.register_forward_hook(see)
            net(*inputs)
    finally:
        before.restore()
    return dict(outputs)


def _move_to_meta(module: nn.Module) -> None:
    both: list[dict[str, Any]] = [module._parameters, module._buffers]
    for tensors in both:
        for name, tensor in tensors.items():
            if tensor is not None:
                moved = tensor.detach().to("meta")
                tensors[name] = nn.Parameter(moved, False) if isinstance(tensor, nn.Parameter) else moved


def _shapes(output: Any) -> Any:
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, Mapping):
        return {key: _shapes(value) for key, value in output.items()}
    if isinstance(output, list | tuple):
        return [_shapes(value) for value in output]
    return type(output).__name__


def _device(net: nn.Module) -> torch.device:
    first: Tensor | None = next(chain(net.parameters(), net.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def float_type(net: nn.Module) -> torch.dtype:
    """The type of the network's first parameter of floating point."""
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)


def _examples(net: nn.Module) -> Iterator[tuple]:
    """Inputs to try, on the meta device: the first convolution tells the channels and the dimensions."""
    known: Any = (nn.Conv2d, nn.Conv3d)
    conv: Any = next((module for module in net.modules() if isinstance(module, known)), None)
    channels = getattr(net, "in_channels", None)
    record = find_record(net)
    if channels is None and record is not None:
        channels = record.in_channels
    if isinstance(channels, int | list | tuple) and (conv is None or conv.in_channels > _MOST_COLOURS):
        yield from _features(net, channels)
    if conv is None:
        return
    own = _own_sizes(net)
    sizes = (*own, *_IMAGES) if isinstance(conv, nn.Conv2d) else _CLIPS
    # A stem may move pixels into channels before its first convolution, as YOLOX's Focus does.
    shapes = [
        (1, colours, *size) for colours in dict.fromkeys((conv.in_channels, _COLOURS)) for size in sizes
    ]
    if isinstance(conv, nn.Conv2d):
        shapes.append((_FRAMES, conv.in_channels, *_IMAGES[0]))
    for shape in shapes:
        yield (torch.empty(shape, device="meta", dtype=float_type(net)),)


def _features(net: nn.Module, channels: int | Sequence[int]) -> Iterator[tuple]:
    """Maps for a neck or a head, finer ones first: several levels, one level, or a map alone."""

    def maps(widths: Sequence[int], side: int) -> tuple[Tensor, ...]:
        sides = [max(side >> level, 1) for level in range(len(widths))]
        return tuple(
            torch.empty(1, width, size, size, device="meta", dtype=float_type(net))
            for width, size in zip(widths, sides)
        )

    if hasattr(net, "in_index"):
        # Some pool maps of a quarter of an image with large windows.
        for side in (64, 256):
            yield (maps(_chosen_widths(net, channels), side),)
    if not isinstance(channels, int):
        yield (maps(channels, 64),)
        return
    own: Any = getattr(net, "in_featuremap_size", None) or getattr(net, "roi_feat_size", None)
    side = own[0] if isinstance(own, list | tuple) else own
    levels = getattr(net, "strides", None) or getattr(getattr(net, "prior_generator", None), "strides", None)
    for number in dict.fromkeys((len(levels or ()), 4, 1)):
        if number:
            yield (maps([channels] * number, side or 64),)
    for size in (side or 14, 7):
        yield maps([channels], size)


def _chosen_widths(net: Any, channels: int | Sequence[int]) -> list[int]:
    """The channels of maps of which mmsegmentation's decode heads choose some by their ``in_index``."""
    chosen = [net.in_index] if isinstance(net.in_index, int) else list(net.in_index)
    if not isinstance(channels, int):
        widths = list(channels)
    else:
        # Of maps that a head concatenates, it knows only the sum of their channels.
        widths = [channels - len(chosen) + 1] + [1] * (len(chosen) - 1)
    levels = max(4, *(place + 1 if place >= 0 else -place for place in chosen))
    found = [1] * levels
    if hasattr(net, "c1_bottleneck"):
        # DeepLabV3+ also reads the first map.
        found[0] = net.c1_bottleneck.conv.in_channels
    for place, width in zip(chosen, widths):
        found[place] = width
    return found


def _own_sizes(net: nn.Module) -> list[Shape]:
    """The sizes of images that a network names itself, as timm's and many transformers do."""
    found = []
    for module in (net, *net.children()):
        config = getattr(module, "pretrained_cfg", None)
        size = config.get("input_size") if isinstance(config, Mapping) else None
        size = size[1:] if size else getattr(module, "img_size", None)
        if isinstance(size, int):
            size = (size, size)
        if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
            found.append(tuple(size))
    return found


def _volume(arguments: tuple) -> int:
    return sum(argument.numel() for argument in arguments if isinstance(argument, Tensor))


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, Tensor):
        if value.device.type == "meta" and device != "meta":
            return torch.zeros(value.shape, dtype=value.dtype, device=device)
        return value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    return value


def channels_of(module: nn.Module) -> int | None:
    """The channels that ``module`` gives, where its class alone tells them; None otherwise."""
    for name in ("out_channels", "num_features"):
        channels = getattr(module, name, None)
        if isinstance(channels, int):
            return channels
    return None
