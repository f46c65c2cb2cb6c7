"""``attn-mm fuse``: fold a trained network's norms; write a config, a checkpoint and ONNX."""

from __future__ import annotations

import argparse
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from attn_mm.describe.build import build
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks.forwards import forward_arguments, input_shape
from attn_mm.frameworks.loading import fill
from attn_mm.graft.fuse import Fused, fuse
from attn_mm.utils.config import drop_pretrained, load_config
from attn_mm.utils.files import check_checkpoint, check_target, write_checkpoint, writing
from attn_mm.utils.flags import add_options_flag, positive
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import working

_DESCRIPTION = """\
Fold the batch norms of a trained network into its convolutions, for deployment.

  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth
  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth -o fcos.pth --onnx fcos.onnx --shape 3 800 1344
"""

_EPILOG = """\
The command writes the checkpoint OUT.pth and its config OUT.py; attn-mm test and attn-mm infer use both.
It compares the outputs before and after folding first, and writes nothing if they differ. docs/deploy.md
lists what is folded and what is not.
"""

TOLERANCE = 1e-9
"""Largest allowed difference in float64, relative to the largest output: above rounding, below mistakes."""

DEPLOYED = "attn_mm.Deployed"


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    parser.add_argument("config", help="config file of any framework")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.pth",
        help="file to write (default: CHECKPOINT with _deployed appended)",
    )
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE.onnx", help="also export to ONNX, without post-processing"
    )
    parser.add_argument(
        "--shape",
        nargs="+",
        type=positive,
        metavar="N",
        help="input shape for the comparison and the export, such as 3 224 224 (default: from the config's "
        "pipeline)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    add_options_flag(parser)
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


class Outputs(nn.Module):
    """Wraps a model to return its heads' outputs as one flat tuple of tensors."""

    def __init__(self, model: nn.Module, scope: str, shape: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.scope, self.shape = scope, tuple(shape)

    def inputs(self) -> Tensor:
        """Make an input of that shape."""
        x, _ = forward_arguments(self.model, self.scope, self.shape, "cpu")
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        _, options = forward_arguments(self.model, self.scope, self.shape, "cpu")
        return tuple(_tensors(self.model(x, **options)))


def _tensors(outputs) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        yield from _tensors(list(outputs.values()))
    elif isinstance(outputs, (list, tuple)):
        for output in outputs:
            yield from _tensors(output)


def difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference relative to an output's largest value; inf if the outputs don't match."""
    if not outputs or [y.shape for y in outputs] != [y.shape for y in expected]:
        return float("inf")
    shares = [
        float((y - reference).abs().max() / reference.abs().max().clamp_min(torch.finfo(y.dtype).tiny))
        for y, reference in zip(outputs, expected)
        if y.is_floating_point() and y.numel()
    ]
    # max() passes over what is no number.
    return max(shares, default=0.0) if all(share == share for share in shares) else float("inf")


@torch.no_grad()
def compare(folded: nn.Module, model: nn.Module, scope: str, shape: Sequence[int], dtype) -> float:
    """The :func:`difference` between the outputs of the model and the folded model in that dtype."""
    nets = [Outputs(copy.deepcopy(net).to(dtype), scope, shape) for net in (folded, model)]
    x = nets[0].inputs().to(dtype)
    outputs, expected = (net(x) for net in nets)
    return difference(outputs, expected)


def open_model(cfg: Config, path: str) -> tuple[nn.Module, dict]:
    """Build the model of ``cfg``, load the checkpoint at ``path``, and return both."""
    model = revert_sync_batchnorm(build(cfg, "cpu"))
    content = CheckpointLoader.load_checkpoint(path, map_location="cpu", logger="silent")
    fill(model, content.get("state_dict", content), f"{path} does not fit {cfg.filename}")
    model.eval()
    return model, content


def check_fold(fused: Fused, name: str) -> None:
    """Raise UserError if nothing could be folded."""
    if fused.folded:
        return
    if not fused.left:
        raise UserError(f"{name} has no batch norm to fold")
    norm, reason = next(iter(fused.left.items()))
    raise UserError(
        f"none of the {len(fused.left)} batch norms of {name} can be folded, such as {norm}: {reason}"
    )


def deployed_config(cfg: Config) -> Config:
    """The config that builds the folded model, without training-only settings."""
    cfg = copy.deepcopy(cfg)
    drop_pretrained(cfg)
    cfg.model.of = cfg.model.type
    cfg.model.type = DEPLOYED
    return cfg


def export_onnx(model: nn.Module, scope: str, shape: Sequence[int], path: Path) -> float | None:
    """Export ``model`` to ONNX for batches of any size.

    Returns:
        The difference of ONNX Runtime's outputs, or None if it isn't installed.

    Raises:
        UserError: the exporter is missing or can't export the model.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(f"--onnx needs {' and '.join(missing)}: pip install onnx onnxscript")
    net = Outputs(model, scope, shape).eval()
    x = net.inputs()
    batch = torch.export.Dim("batch")
    try:
        with torch.no_grad(), _quiet():
            torch.onnx.export(
                net,
                (x.repeat(2, *[1] * (x.dim() - 1)),),
                str(path),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                external_data=False,
                verbose=False,
            )
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror})") from error
    except Exception as error:
        # An exporter fails in its own ways for whatever a model does.
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"--onnx: this model can't be exported ({type(error).__name__}: {reason})") from error
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        return difference([torch.from_numpy(y) for y in outputs], net(x))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress messages."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    check_checkpoint(args.checkpoint)
    cfg = load_config(args.config, args.cfg_options)
    if not isinstance(cfg.get("model"), dict):
        raise UserError(f"{args.config} has no model")
    if cfg.model.get("type") == DEPLOYED:
        raise UserError(f"{args.config} is already a deployed model's config: name the trained one")
    source = Path(args.checkpoint)
    out = args.out or source.with_name(f"{source.stem}_deployed.pth")
    if out.suffix == ".py":
        raise UserError(
            f"-o {out}: the config will have this name; give the checkpoint a name that ends in .pth"
        )
    targets = [out, out.with_suffix(".py"), *([args.onnx] if args.onnx else [])]
    for target in targets:
        check_target(target, args.checkpoint, args.force)

    model, content = open_model(cfg, args.checkpoint)
    if args.onnx and hasattr(model, "roi_head"):
        raise UserError(
            f"--onnx: {args.config} is a two-stage detector, whose proposals depend on the image: it can't "
            "be exported. Leave --onnx out"
        )
    scope, shape = cfg.get("default_scope") or "mmengine", tuple(args.shape or input_shape(cfg))
    folded = copy.deepcopy(model)
    fused = fuse(folded)
    check_fold(fused, args.config)
    # Weights that are folded in float32 are rounded to it: what shows mistakes is folded in float64.
    exact = copy.deepcopy(model).double()
    fuse(exact)
    try:
        with working("comparing outputs"):
            single = compare(folded, model, scope, shape, torch.float32)
            double = compare(exact, model, scope, shape, torch.float64)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        size, reason = " x ".join(map(str, shape)), str(error).strip().partition("\n")[0]
        raise UserError(f"{args.config} does not run on an input of {size} (--shape): {reason}") from error
    if not double <= TOLERANCE:
        raise UserError(
            f"folding would change the outputs by {double:.1e} of their size in float64: nothing was written"
        )

    print(f"{fused.folded} batch norms folded, {len(fused.left)} not folded")
    for name, reason in fused.left.items():
        print(f"  {name}: {reason}")
    print(f"parameters: {_parameters(model):,} -> {_parameters(folded):,}")
    print(f"outputs differ by {single:.1e} of their size in float32, {double:.1e} in float64")
    meta = {**(content.get("meta") or {}), "deployed": True}
    write_checkpoint({"state_dict": folded.state_dict(), "meta": meta}, out)
    with writing(targets[1]):
        deployed_config(cfg).dump(targets[1])
    if args.onnx:
        with working("exporting"):
            off = export_onnx(folded, scope, shape, args.onnx)
        said = "not checked: onnxruntime is not installed" if off is None else f"outputs differ by {off:.1e}"
        print(f"{args.onnx}: batches of any size, inputs of {' x '.join(map(str, shape))}; {said}")
    print(f"{out}: use it with {targets[1]}, for example\n  attn-mm test {targets[1]} {out}")
