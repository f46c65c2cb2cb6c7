"""``attn-mm convert``: convert the checkpoints of top-down attention's authors to grafted backbones.

Jaiswal, Fernando & Tan, TDAM: Top-Down Attention Module for Contextually Guided Feature
Selection in CNNs, ECCV 2022 (https://arxiv.org/abs/2111.13470, where the first version is TDAN:
Top-Down Attention Networks). Their networks are ResNets with torchvision's names. A block with
feedback also has ``RA_block`` (the attention) and, for step t = 1, 2, … of the unit ``conv3``,
a norm ``bn3_t``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from attn_mm.compat.checkpoints import load_checkpoint_file
from attn_mm.describe.counting import weightless
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.registry import MODELS
from attn_mm.utils.files import check_target, write_checkpoint
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.weights import fault_of

FRAMEWORKS = ("mmdet", "mmpose", "mmpretrain")

DEPTHS: dict[tuple[str, tuple[int, ...]], int] = {
    ("basic", (2, 2, 2, 2)): 18,
    ("basic", (3, 4, 6, 3)): 34,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
}

_DESCRIPTION = """\
Convert a checkpoint of a ResNet with top-down attention (TD) from its authors' format.

  %(prog)s TD_RNet50_t2_m1_joint.pth.tar td_r50.pth --to mmpretrain
  %(prog)s TD_RNet50_t2_m1_joint.pth.tar td_r50_backbone.pth --to mmdet

For mmpretrain the command converts the whole classifier, for mmdet and mmpose only the
backbone. It prints the config lines that build the network and load the weights.
"""


@dataclass(frozen=True)
class TDNet:
    """A ResNet with top-down attention, as found in a checkpoint.

    Attributes:
        depth: depth of the ResNet, 18 to 152.
        channels: channels of the stem; 64 in every published network.
        mode, steps, distance, reduction: see :func:`attn_mm.models.grafts.td.top_down`.
        stages: stages with feedback, from 0.
        blocks: for each of ``stages``, ``'all'`` or the blocks with feedback, from 0.
    """

    depth: int
    channels: int
    mode: Literal["joint", "top"]
    steps: int
    distance: int
    reduction: int
    stages: tuple[int, ...]
    blocks: tuple[Literal["all"] | tuple[int, ...], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks in each stage."""
        return next(counts for (_, counts), depth in DEPTHS.items() if depth == self.depth)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights in a checkpoint file, under the authors' names.

    Raises:
        CheckpointError: the file can't be read.
        UserError: the file contains no weights.
    """
    state: Any = load_checkpoint_file(path)
    while wrapper := next((w for w in ("state_dict", "model") if isinstance(state.get(w), dict)), None):
        state = state[wrapper]
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(
            f"{path} contains no weights: expected tensors at the top level, in state_dict or in model"
        )
    parallel = "module."
    if all(name.startswith(parallel) for name in state):
        state = {name[len(parallel) :]: value for name, value in state.items()}
    return dict(state)


def describe(state: dict[str, Tensor]) -> TDNet:
    """Recognise the network from the names and shapes of its weights.

    Raises:
        UserError: it isn't a network with top-down attention in the authors' layout.
    """
    layout: dict[tuple[int, int], set[str]] = {}
    for name in state:
        if match := re.fullmatch(r"layer([1-9])\.(\d+)\.(.+)", name):
            layout.setdefault((int(match[1]) - 1, int(match[2])), set()).add(match[3])
    if "conv1.weight" not in state or not layout:
        raise UserError("not a ResNet with torchvision's names: it has no conv1.weight or no layer1.0")
    stem = tuple(state["conv1.weight"].shape)
    if len(stem) != 4 or 0 in stem:
        raise UserError(f"conv1.weight is {stem}, expected (channels, 3, 7, 7)")
    counts = tuple(sum(stage == s for s, _ in layout) for stage in range(4))
    kind = "bottleneck" if "conv3.weight" in layout[min(layout)] else "basic"
    if (kind, counts) not in DEPTHS:
        raise UserError(
            f"stages of {', '.join(map(str, counts))} {kind} blocks don't match a ResNet of depth "
            f"{', '.join(map(str, DEPTHS.values()))}"
        )
    depth = DEPTHS[kind, counts]
    convs = 3 if kind == "bottleneck" else 2

    feedback = sorted(place for place, names in layout.items() if any(_is_attention(n) for n in names))
    if not feedback:
        raise UserError(f"a ResNet-{depth} without top-down attention: none of its blocks has an RA_block")
    found = {place: _describe_feedback(layout[place], convs, _name(place)) for place in feedback}
    first = feedback[0]
    for place in feedback:
        if found[place] != found[first]:
            raise UserError(
                f"{_name(first)} and {_name(place)} differ in mode, steps or distance of their feedback"
            )
    mode, steps, distance = found[first]

    channels = stem[0]
    top = channels * 2 ** first[0] * (4 if kind == "bottleneck" else 1)
    hidden = _rows(state[f"{_name(first)}.{_attention_names(layout[first])['top_mlp']}"])
    stages = tuple(sorted({stage for stage, _ in feedback}))
    places = [tuple(block for s, block in feedback if s == stage) for stage in stages]
    return TDNet(
        depth,
        channels,
        mode,
        steps,
        distance,
        reduction=16 if hidden == top // 16 else max(1, top // max(1, hidden)),
        stages=stages,
        blocks=tuple("all" if len(p) == counts[s] else p for s, p in zip(stages, places)),
    )


def _name(place: tuple[int, int]) -> str:
    return f"layer{place[0] + 1}.{place[1]}"


def _rows(weight: Tensor) -> int:
    return weight.shape[0] if weight.dim() else 0


def _is_attention(name: str) -> bool:
    return name.startswith("RA_block.")


def _attention_names(names: Iterable[str]) -> dict[str, str]:
    """Map our name of each attention weight to the authors'; empty if theirs is unknown."""
    groups: dict[str, list[str]] = {"Ug_top_mlp": [], "Ug_bottom_mlp": [], "Ug_mlp": []}
    for name in sorted(filter(_is_attention, names)):
        groups.setdefault(name.split(".")[1], []).append(name)
    top, bottom, mlp = (groups.pop(group) for group in ("Ug_top_mlp", "Ug_bottom_mlp", "Ug_mlp"))
    if not top and not bottom and len(mlp) == 2:
        # Top attention is one sequence of W_t, ReLU and W_s there.
        top, mlp = mlp[:1], mlp[1:]
    if groups or (len(top), len(mlp)) != (1, 1) or len(bottom) > 1:
        return {}
    return {"top_mlp": top[0], **({"bottom_mlp": bottom[0]} if bottom else {}), "mlp": mlp[0]}


def _describe_feedback(names: set[str], convs: int, block: str) -> tuple[Literal["joint", "top"], int, int]:
    """Find the mode, steps and distance of a block's feedback."""
    attention = _attention_names(names)
    if not attention:
        given = ", ".join(sorted(filter(_is_attention, names)))
        raise UserError(f"{block} has an attention of an unknown kind: {given}")
    norms = [m.groups() for m in (re.match(rf"bn([1-{convs}])_([1-9]\d*)\.", name) for name in names) if m]
    if not norms:
        raise UserError(
            f"{block} lacks the norm of a second step, bn{convs}_1: its steps and distance are unknown"
        )
    units, steps = zip(*norms)
    mode: Literal["joint", "top"] = "joint" if "bottom_mlp" in attention else "top"
    return mode, 1 + len(set(steps)), convs + 1 - int(min(units))


def backbone_config(net: TDNet, framework: str) -> dict[str, Any]:
    """Make the config of ``net`` as a grafted backbone of ``framework``."""
    resnet = dict(type=f"{framework}.ResNet", depth=net.depth)
    if net.channels != 64:
        resnet.update(stem_channels=net.channels, base_channels=net.channels)
    resnet.update(style="pytorch")
    graft: dict[str, Any] = dict(type="attn_mm.TD", mode=net.mode, steps=net.steps)
    graft.update(distance=net.distance, stages=net.stages)
    if any(places != "all" for places in net.blocks):
        graft.update(blocks=net.blocks)
    if net.reduction != 16:
        graft.update(reduction=net.reduction)
    return dict(type="attn_mm.AttnBackbone", backbone=resnet, grafts=[graft])


def expected_weights(
    net: TDNet, framework: str, state: dict[str, Tensor]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """``{their name: (our name, our shape)}`` of every weight of ``net``."""
    with weightless():
        backbone = MODELS.build(backbone_config(net, framework))
    table = {
        _their_name(name, state): (name, tuple(tensor.shape))
        for name, tensor in backbone.state_dict().items()
    }
    if "fc.weight" in state:
        classes = _rows(state["fc.weight"])
        table["fc.weight"] = "fc.weight", (classes, backbone.feat_dim)
        table["fc.bias"] = "fc.bias", (classes,)
    return table


def _their_name(name: str, state: Iterable[str]) -> str:
    """The authors' name for our weight of that name."""
    if match := re.fullmatch(r"(.+)\.td\.norms\.(\d+)\.conv(\d)\.(\w+)", name):
        block, step, unit, tensor = match.groups()
        return f"{block}.bn{unit}_{int(step) + 1}.{tensor}"
    block, attention, weight = name.partition(".td.attention.")
    if not attention:
        return name
    prefix = f"{block}."
    names = _attention_names(key[len(prefix) :] for key in state if key.startswith(prefix))
    return prefix + names[weight.removesuffix(".weight")]


def convert(state: dict[str, Tensor], net: TDNet, framework: str) -> dict[str, Tensor]:
    """Convert the weights to the names and shapes of the grafted ResNet with a classifier ``fc``.

    Raises:
        UserError: a weight is missing, unknown, has the wrong shape, or makes no sense.
    """
    table = expected_weights(net, framework, state)
    # Counters of batches are absent from older checkpoints; torch fills them in.
    missing = [name for name in table if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in table]
    for kind, names in (("missing", missing), ("unknown", unknown)):
        if names:
            raise UserError(f"{_weights(len(names))} of a TD ResNet-{net.depth} {kind}: {_abridge(names)}")
    converted = {}
    for theirs, tensor in state.items():
        ours, shape = table[theirs]
        given = tuple(tensor.shape)
        if ".RA_block." in theirs and given == shape[:2]:
            given = shape  # a linear layer's
        if given != shape:
            raise UserError(f"{theirs} is {tuple(tensor.shape)}, expected {shape} in a TD ResNet-{net.depth}")
        dtype = torch.int64 if ours.endswith("num_batches_tracked") else torch.float32
        wrong = fault_of(theirs, tensor, torch.empty(0, dtype=dtype, device="meta"), finite=True)
        if wrong:
            raise UserError(f"{wrong}: the file is damaged")
        converted[ours] = tensor.reshape(shape)
    return converted


def _weights(number: int) -> str:
    return "1 weight" if number == 1 else f"{number} weights"


def _abridge(names: list[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def for_framework(weights: dict[str, Tensor], framework: str) -> dict[str, Tensor]:
    """The weights for an mmpretrain classifier, or for an mmdet or mmpose backbone, without ``fc``."""
    heads = {name for name in weights if name.startswith("fc.")}
    if framework != "mmpretrain":
        return {name: value for name, value in weights.items() if name not in heads}
    return {f"{'head' if name in heads else 'backbone'}.{name}": value for name, value in weights.items()}


def config_lines(net: TDNet, framework: str, path: str) -> str:
    """Write the config lines that build ``net`` and load ``path`` into it."""
    config = backbone_config(net, framework)
    if framework != "mmpretrain":
        config["backbone"].update(init_cfg=dict(type="Pretrained", checkpoint=path))
    lines = [
        "model = dict(",
        "    backbone=dict(",
        "        _delete_=True,",
        *(f"        {key}={_code(value)}," for key, value in config.items()),
        "    ),",
        ")",
    ]
    if framework == "mmpretrain":
        lines.append(f"load_from = {_code(path)}")
    return "\n".join(lines)


def _code(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict({', '.join(f'{key}={_code(item)}' for key, item in value.items())})"
    if isinstance(value, list):
        return f"[{', '.join(map(_code, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_code, value))}{',' if len(value) == 1 else ''})"
    return json.dumps(value, ensure_ascii=False)


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("source", help="checkpoint file in the authors' format")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--to", required=True, choices=FRAMEWORKS, help="framework that will load it")
    parser.add_argument("--force", action="store_true", help="overwrite the file if it exists")
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    if find_spec(args.to) is None:
        raise UserError(f"--to {args.to} needs {args.to}, which the extras of attn-mm install")
    check_target(args.target, args.source, args.force)
    state = read_weights(args.source)
    try:
        net = describe(state)
        weights = convert(state, net, args.to)
    except UserError as error:
        raise UserError(f"{args.source}: {error}") from error
    kept = for_framework(weights, args.to)
    write_checkpoint({"state_dict": kept, "meta": asdict(net)}, args.target)
    print(
        f"{args.target}: {_weights(len(kept))} of a ResNet-{net.depth} with {net.mode} attention, "
        f"{net.steps} steps, distance {net.distance}, in {_where(net)}"
    )
    if len(kept) < len(weights):
        print("left out: fc, the classifier")
    print(f"\nIn the config:\n\n{config_lines(net, args.to, str(args.target))}")


def _where(net: TDNet) -> str:
    parts = []
    for stage, places in zip(net.stages, net.blocks):
        number = net.counts[stage]
        blocks = f"all {number}" if places == "all" else f"{len(places)} of {number}"
        parts.append(f"{blocks} blocks of layer{stage + 1}")
    return " and ".join(parts)
