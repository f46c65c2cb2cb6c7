"""``tools/complexity.py``: parameters and multiply-adds of a config, or of the papers' networks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from attn_mm.analysis.complexity import Part, measure, weightless
from attn_mm.analysis.papers import PAPERS
from attn_mm.analysis.tables import markdown_table
from attn_mm.engine.configs import ConfigOptions, load_config, walk
from attn_mm.engine.files import make_folder
from attn_mm.engine.papers import compare, paper_report
from attn_mm.errors import UserError, reports_user_errors

_DESCRIPTION = """\
Count the parameters and multiply-adds of a config's network, part by part,
or compare those that the papers publish with those of the networks here.

  complexity.py configs/fcos_tdaf_r50.py
  complexity.py configs/fcos_tdaf_r50.py --shape 3 640 640 --out counts
  complexity.py --paper
  complexity.py --paper td aw --out counts
"""

_EPILOG = """\
conv: multiply-adds of convolutions, linear layers and matrix products. full: conv, 2 for each
element of a normalization, 1 for each of a ReLU or pooling. docs/complexity.md says more.
"""


T = TypeVar("T")

_SHAPE_ERRORS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
"""What layers raise on an input whose shape they can't take."""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file of mmdet, mmpose, mmaction2 or mmpretrain")
    parser.add_argument(
        "--paper",
        nargs="*",
        metavar="PAPER",
        help=f"the papers' networks instead of a config: any of {', '.join(PAPERS)} (default: all)",
    )
    parser.add_argument(
        "--shape",
        nargs="+",
        type=int,
        metavar="N",
        help="shape of an input: 3 224 224 for an image, 3 16 112 112 for a clip of a 3D network, "
        "8 3 224 224 for the frames of a 2D one (default: that of the config's pipeline)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write the table as Markdown and JSON here"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help="change the config, such as model.backbone.flows=4",
    )
    return parser.parse_args(argv)


def input_shape(cfg: Config) -> tuple[int, ...]:
    """The shape of the inputs that the pipeline of ``cfg`` makes, as far as it says."""
    loader = cfg.get("val_dataloader") or cfg.get("test_dataloader") or {}
    steps = [s for s in walk(loader.get("dataset", {}).get("pipeline") or []) if "type" in s]
    sizes = [s[key] for s in steps for key in ("scale", "crop_size", "input_size") if s.get(key)]
    width, height = _pair(sizes[-1] if sizes else 32 if "CIFAR" in str(loader) else 224)
    divisor = cfg.model.get("data_preprocessor", {}).get("pad_size_divisor", 1)
    size = tuple(-(-side // divisor) * divisor for side in (height, width))
    frames = next((s for s in steps if _type_name(s).endswith("SampleFrames")), None)
    if frames is None:
        return (3, *size)
    volumes = any(s.get("input_format") == "NCTHW" for s in steps)
    return (3, frames.clip_len, *size) if volumes else (frames.get("num_clips", 1), 3, *size)


def _type_name(step: dict) -> str:
    """What ``step`` is, by a name or, in a config of mmengine's newer style, by the class itself."""
    return step.type if isinstance(step.type, str) else step.type.__name__


def _pair(size) -> tuple[int, int]:
    sides = [size] if isinstance(size, int) else list(size)[-2:]
    # -1 stands for a side that follows from the image's.
    sides = [side for side in sides if side > 0]
    return sides[0], sides[-1]


def build(cfg: Config, device: str) -> nn.Module:
    """The model of ``cfg``, on the meta device without memory for its weights.

    Raises:
        UserError: it can't be built.
    """
    try:
        with DefaultScope.overwrite_default_scope(_scope(cfg)):
            if device != "meta":
                return MODELS.build(cfg.model)
            with weightless():
                return MODELS.build(cfg.model).to("meta")
    except Exception as error:
        # A constructor raises whatever it likes where the config's options don't fit it.
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise UserError(f"the model of {cfg.filename} can't be built: {_first_line(reason)}") from error


def _scope(cfg: Config) -> str:
    return cfg.get("default_scope") or "mmengine"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def forward_arguments(model: nn.Module, scope: str, shape: Sequence[int], device: str) -> tuple[Tensor, dict]:
    """What ``model`` takes to run on an image or clip of that shape, up to its heads' outputs."""
    x = torch.rand(1, *shape, device=device)
    if not isinstance(model, BaseModel):
        return x, {}
    if scope == "mmaction":
        volumes = any(isinstance(m, nn.Conv3d) for m in model.modules())
        # Recognizers take several clips, or frames, of a video.
        return x if len(shape) == 4 and not volumes else x[:, None], dict(mode="tensor", stage="head")
    samples = None
    if scope == "mmdet":
        from mmdet.structures import DetDataSample

        size = tuple(shape[-2:])
        meta = dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1, 1)
        )
        samples = [DetDataSample(metainfo=meta)]
    return x, dict(mode="tensor", data_samples=samples)


def count_config(cfg: Config, shape: Sequence[int], depth: int = 2) -> list[Part]:
    """Parameters and multiply-adds of the model of ``cfg`` and its parts; errors as of :func:`look_at`."""
    return look_at(cfg, shape, partial(measure, depth=depth))


def look_at(cfg: Config, shape: Sequence[int], look: Callable[..., T]) -> T:
    """What ``look(model, x, **kwargs)`` finds, which runs the model of ``cfg`` on an input of that shape.

    Raises:
        UserError: it can't be built, or does not run on such an input.
    """

    def run(model: nn.Module, device: str) -> T:
        x, kwargs = forward_arguments(model, _scope(cfg), shape, device)
        return look(model, x, **kwargs)

    model = build(cfg, "meta")
    try:
        try:
            return run(model, "meta")
        except Exception as error:
            # What depends on values, such as the boxes that a second stage looks at, needs real ones.
            if "meta" not in str(error).lower():
                raise
        return run(build(cfg, "cpu"), "cpu")
    except _SHAPE_ERRORS as error:
        reason = _first_line(str(error)) or type(error).__name__
        size = " x ".join(map(str, shape))
        raise UserError(f"{cfg.filename} does not run on an input of {size} (--shape): {reason}") from error


def config_report(name: str, shape: Sequence[int], parts: Sequence[Part]) -> str:
    """The counts as Markdown."""
    total = parts[0]
    header = ("part", "type", "parameters", "trainable", "MACs, conv", "MACs, full")
    rows = [
        (
            "total" if part is total else part.name,
            part.type,
            f"{part.params:,}",
            f"{part.trainable:,}",
            f"{part.conv / 1e9:.3f} G",
            f"{part.full / 1e9:.3f} G",
        )
        for part in (*parts[1:], total)
    ]
    lines = [f"# {name}, input {' x '.join(map(str, shape))}", "", markdown_table(header, rows, header[2:])]
    if total.frozen_affine:
        kept = total.params - total.frozen_affine
        lines += ["", f"Without the scales and shifts of frozen batch norms: {kept:,} parameters."]
    return "\n".join(lines) + "\n"


def write(out: Path, name: str, report: str, record: object) -> None:
    """Write ``name``.md and ``name``.json into the folder ``out``; UserError where that fails."""
    try:
        (out / f"{name}.md").write_text(report)
        (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{error.filename} can't be written ({error.strerror})") from error


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    if (args.config is None) == (args.paper is None):
        raise UserError("name a config, or --paper, and not both")
    if args.out:
        make_folder(args.out)
    if args.paper is not None:
        _papers(args)
        return
    cfg = load_config(args.config, args.cfg_options)
    if "model" not in cfg:
        raise UserError(f"{args.config} has no model")
    if not isinstance(cfg.model, dict):
        raise UserError(f"the model of {args.config} must be a dict, got {cfg.model!r}")
    shape = tuple(args.shape or input_shape(cfg))
    parts = count_config(cfg, shape)
    report = config_report(args.config, shape, parts)
    print(report, end="")
    if args.out:
        record = dict(config=args.config, shape=shape, parts=[vars(part) for part in parts])
        write(args.out, Path(args.config).stem, report, record)


def _papers(args: argparse.Namespace) -> None:
    unknown = sorted(set(args.paper) - set(PAPERS))
    if unknown:
        raise UserError(f"--paper knows {', '.join(PAPERS)}, not {', '.join(unknown)}")
    if args.shape or args.cfg_options:
        raise UserError("--shape and --cfg-options are for a config; the papers' networks have their own")
    counts = compare(args.paper or PAPERS)
    report = paper_report(counts)
    print(report, end="")
    if args.out:
        write(args.out, "papers", report, [count.record() for count in counts])
