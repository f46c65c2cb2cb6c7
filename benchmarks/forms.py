"""Find the fastest of a layer's exact forms, and show which one the layer chooses.

    python -m benchmarks.forms --work-dir out                               # every layer, on the best device
    python -m benchmarks.forms --work-dir out --layers AW --batch 64 --dtype bf16 --layout channels_last

A layer's forms compute the same result at different cost. They take turns on the layer shapes of a
ResNet-50: AW's 3x3 convolutions, the last convolutions of TD's blocks, the gates of TAM; and for AW on those
of ResNet-18s for CIFAR, which --sides 32 16 8 4 measures alone. The table gives
each form's time relative to a baseline (the plain convolution; for a gate, one multiplication of the map
by it), the form that the layer chooses, and that form's time relative to the fastest. On a CUDA device
the steps are replayed as graphs, to measure only the device's time. The results are saved in forms.json:
after an interruption, repeat the command to continue where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.errors import reports_user_errors
from attn_mm.layers import TAM
from attn_mm.layers.forms import aw as aw_forms
from attn_mm.layers.forms import tam as tam_forms
from attn_mm.layers.forms import td as pooled_norm
from attn_mm.run.cpu import keep_freed_memory
from attn_mm.utils.files import write_atomically
from attn_mm.utils.flags import add_device_flag, positive
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table
from benchmarks.timing import captured, device_name, open_record, ratios, seconds, take_turns

_LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_MODES = ("inference", "training")
# A turn lasts so long at least, or else the clock is what is measured.
_SHORTEST = 2e-3
_BASELINE = "baseline"


class Shape(NamedTuple):
    """The shape of a layer: input and output channels, side of the map, stride."""

    channels: int
    out_channels: int
    side: int
    stride: int = 1


class Case(NamedTuple):
    """One row of the table."""

    layer: str
    channels: int
    out_channels: int
    side: int
    stride: int
    batch: int
    mode: str
    layout: str
    dtype: str

    @property
    def key(self) -> str:
        return " ".join(map(str, self))


SHAPES = {
    "AW": [
        *(Shape(c, c, side) for c, side in ((64, 56), (128, 28), (256, 14), (512, 7))),
        *(Shape(c, c, side, 2) for c, side in ((128, 56), (256, 28), (512, 14))),
        *(Shape(c, c, side) for c, side in ((16, 32), (32, 16), (64, 8), (128, 4))),
        *(Shape(c, c, side) for c, side in ((64, 32), (128, 16), (256, 8), (512, 4))),
    ],
    "TD": [Shape(c, 4 * c, side) for c, side in ((64, 56), (128, 28), (256, 14), (512, 7))],
    "TAM": [Shape(c, c, side) for c, side in ((256, 56), (512, 28), (1024, 14), (2048, 7))],
}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, known, default, text in (
        ("--layers", SHAPES, list(SHAPES), "AW, TD, TAM (default: all)"),
        ("--mode", _MODES, list(_MODES), "inference, training (default: both)"),
        ("--layout", _LAYOUTS, ["nchw"], "nchw, channels_last (default: nchw)"),
        ("--dtype", _DTYPES, ["fp32"], "fp32, bf16 (default: fp32)"),
    ):
        parser.add_argument(flag, nargs="+", choices=list(known), default=default, metavar="NAME", help=text)
    parser.add_argument("--batch", nargs="+", type=positive, default=[8], metavar="N", help="default: 8")
    parser.add_argument("--sides", nargs="+", type=positive, metavar="N", help="sides of maps (default: all)")
    parser.add_argument("--repeats", type=positive, default=15, help="turns (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads")
    add_device_flag(parser)
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for forms.json and .md")
    return parser.parse_args(argv)


def cases_of(
    layers: Iterable[str],
    batches: Iterable[int],
    modes: Iterable[str],
    layouts: Iterable[str],
    dtypes: Iterable[str],
    sides: Collection[int] | None = None,
) -> list[Case]:
    """The cases of these layers, in every shape, or those of these sides."""
    return [
        Case(layer, *shape, batch, mode, layout, dtype)
        for layer in layers
        for shape in SHAPES[layer]
        if sides is None or shape.side in sides
        for batch, mode, layout, dtype in product(batches, modes, layouts, dtypes)
        # With fixed statistics there is but one form.
        if layer != "TD" or mode == "training"
    ]


def tensors(case: Case, device: str) -> tuple[Tensor, nn.Conv2d]:
    """Make the input of a case and its plain convolution."""
    torch.manual_seed(0)
    kernel = 3 if case.layer == "AW" else 1
    conv = nn.Conv2d(
        case.channels, case.out_channels, kernel, case.stride, kernel // 2, bias=False, device=device
    ).to(memory_format=_LAYOUTS[case.layout])
    shape = case.batch, case.channels, case.side, case.side
    x = torch.randn(shape, device=device, dtype=_DTYPES[case.dtype])
    return x.contiguous(memory_format=_LAYOUTS[case.layout]), conv


def choice(case: Case, device: str) -> str:
    """The form that the layer chooses on that device; on ``meta`` without computing it."""
    x, conv = tensors(case, device)
    side = (case.side - 1) // case.stride + 1
    if case.layer == "AW":
        s = torch.empty(case.batch, case.out_channels, 1, 3, 3, device=device)
        with torch.set_grad_enabled(case.mode == "training"):
            return aw_forms.choose_form(x, conv.weight, s, conv.stride, side * side, 1)
    if case.layer == "TD":
        return "covariance" if pooled_norm.covariance_is_cheaper(conv, case.batch * side * side) else "output"
    parameters = list(TAM(case.channels).to(device).parameters())
    return "kernel" if tam_forms.has_kernel(x, parameters) else "pieces"


def forms_of(case: Case, device: str) -> dict[str, Callable[[], object]]:
    """Make a function for each form of a case, and for the baseline."""
    make = {"AW": _aw_forms, "TD": _td_forms, "TAM": _tam_forms}[case.layer]
    x, conv = tensors(case, device)
    training = case.mode == "training"
    x.requires_grad_(training)
    return {name: _step(form, inputs, training) for name, (form, inputs) in make(case, x, conv).items()}


def _step(form: Callable[..., Tensor], inputs: list[Tensor], training: bool) -> Callable[[], None]:
    if not training:

        def infer() -> None:
            with torch.inference_mode():
                form(*inputs)

        return infer
    grads: list[Tensor] = []

    def train() -> None:
        y = form(*inputs)
        if not grads:
            grads.append(torch.randn_like(y))
        torch.autograd.grad(y, inputs, grads[0])

    return train


def _aw_forms(case: Case, x: Tensor, conv: nn.Conv2d) -> dict:
    weight = conv.weight.to(x.dtype).detach().requires_grad_(x.requires_grad)
    s = 1 + torch.rand(case.batch, case.out_channels, 1, 3, 3, device=x.device, dtype=x.dtype)
    s.requires_grad_(x.requires_grad)
    names = ["grouped", "loop", "taps"]
    if x.device.type == "cpu" and case.stride == 1:
        names.append("shift")
    if aw_forms.kernels.usable(x):
        names.append("fused")

    def run(name: str, x: Tensor, weight: Tensor, s: Tensor) -> Tensor:
        return aw_forms.FORMS[name](x, weight, s, None, conv.stride, conv.padding, conv.dilation, 1)

    forms = {name: (partial(run, name), [x, weight, s]) for name in names}
    plain = partial(F.conv2d, stride=conv.stride, padding=conv.padding)
    return {_BASELINE: (plain, [x, weight]), **forms}


def _td_forms(case: Case, x: Tensor, conv: nn.Conv2d) -> dict:
    norm = nn.BatchNorm2d(case.out_channels, device=x.device)
    conv.to(x.dtype)
    inputs = [x, *conv.parameters(), *norm.parameters()]

    def plain(*_: Tensor) -> Tensor:
        return conv(x)

    def written(*_: Tensor) -> Tensor:
        return norm(conv(x)).mean((2, 3))

    def covariance(*_: Tensor) -> Tensor:
        return pooled_norm.from_covariance(x, conv, norm)[0]

    def output(*_: Tensor) -> Tensor:
        return pooled_norm.from_output(conv(x), norm)[0]

    forms = {"written": written, "covariance": covariance, "output": output}
    return {_BASELINE: (plain, inputs[:2]), **{name: (form, inputs) for name, form in forms.items()}}


def _tam_forms(case: Case, x: Tensor, conv: nn.Conv2d) -> dict:
    layer = TAM(case.channels).to(x.device)
    parameters = list(layer.parameters())
    gate = torch.rand(case.batch, 1, case.side, case.side, device=x.device, dtype=x.dtype)
    gate.requires_grad_(x.requires_grad)

    def written(x: Tensor, *_: Tensor) -> Tensor:
        with torch.autocast(x.device.type, x.dtype, enabled=x.dtype == torch.bfloat16):
            return x * layer.tree(x).sigmoid()

    def tree_gate(by: str, x: Tensor, *parameters: Tensor) -> Tensor:
        return tam_forms.tree_gate(x, parameters, by)[0]

    names = ["pieces"] + (["kernel"] if tam_forms.has_kernel(x, parameters) else [])
    inputs = [x, *parameters]
    forms = {name: (partial(tree_gate, name), inputs) for name in names}
    return {_BASELINE: (torch.mul, [x, gate]), "written": (written, inputs), **forms}


def measure(case: Case, device: str, repeats: int) -> dict:
    """Measure one case in ``repeats`` turns of each form, and return its record."""
    steps = forms_of(case, device)
    if device.startswith("cuda"):
        steps = {name: captured(step) for name, step in steps.items()}
    quickest = min(_warm_seconds(step, device) for step in steps.values())
    calls = max(1, math.ceil(_SHORTEST / quickest))
    times = take_turns(steps, repeats, "wall", device, calls)
    return dict(case._asdict(), seconds={name: [round(t, 8) for t in ts] for name, ts in times.items()})


def _warm_seconds(step: Callable[[], object], device: str) -> float:
    step()
    return seconds(step, "wall", device)


def medians(record: dict) -> dict[str, float]:
    """Median of each form's time relative to the baseline in the same turn."""
    times = record["seconds"]
    return {
        name: statistics.median(ratios(times[name], times[_BASELINE])) for name in times if name != _BASELINE
    }


def case_of(record: dict) -> Case:
    return Case(*(record[name] for name in Case._fields))


def over_the_best(record: dict, form: str) -> float:
    """The time of ``form`` relative to the fastest form."""
    of = medians(record)
    return of[form] / min(of.values())


def _rows(records: list[dict], device: str) -> Iterator[tuple[str, ...]]:
    for record in records:
        case = case_of(record)
        form = choice(case, device)
        yield (
            *map(str, case),
            ", ".join(f"{name} {value:.2f}" for name, value in sorted(medians(record).items())),
            form,
            f"{over_the_best(record, form):.2f}",
        )


def report(records: list[dict], about: dict, device: str) -> str:
    """Format the table as Markdown."""
    header = (*Case._fields, "times", "chosen", "over the best")
    lines = [
        "# Forms",
        "",
        f"Median of {about['repeats']} turns over the baseline's: the plain convolution, for TAM a map times "
        "a gate. Forward in inference, forward and backward in training.",
        "",
        f"{about['device']}, torch {about['torch']}, {about['threads']} threads.",
        "",
        markdown_table(header, list(_rows(records, device)), ()),
    ]
    return "\n".join(lines) + "\n"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.device == "cpu":
        keep_freed_memory()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    about = dict(
        device=device_name(args.device),
        torch=torch.__version__,
        threads=args.threads,
        repeats=args.repeats,
    )
    path = args.work_dir / "forms.json"
    record = open_record(path, about)
    cases = cases_of(args.layers, args.batch, args.mode, args.layout, args.dtype, args.sides)
    todo = [case for case in cases if case.key not in record["cases"]]
    with progress_bar() as progress:
        task = progress.add_task("cases", total=len(todo))
        for case in todo:
            progress.update(task, description=case.key)
            record["cases"][case.key] = measure(case, device=args.device, repeats=args.repeats)
            write_atomically(path, json.dumps(record) + "\n")
            progress.advance(task)
    text = report(list(record["cases"].values()), about, args.device)
    write_atomically(args.work_dir / "forms.md", text)
    print(text, end="")


if __name__ == "__main__":
    main()
