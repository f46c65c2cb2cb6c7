"""Measure what attention costs: time and memory of a step relative to the plain backbone.

    python -m benchmarks.latency --work-dir out                           # TD, AW, TAM, TDAF on a ResNet-50
    python -m benchmarks.latency --work-dir out --modules TD --backbones r18 r50 --layout channels_last
    python -m benchmarks.latency --work-dir out --papers                  # beside the papers' figures
    python -m benchmarks.latency --work-dir out --peers                   # SE, CBAM, ECA beside timm's
    python -m benchmarks.latency --work-dir out --quick                   # a tiny network, in seconds

The forms of a case take turns within one process: `ours`; `naive`, the formulas as written, without exact
shortcuts; `plain`, the backbone alone; in inference `folded` and `plain folded`, with norms folded into
convolutions; and with --peers `timm`, timm's layer of the same attention at the same places. A ratio divides
the times of two forms in the same turn; the tables give the median and the quartiles over all turns. A
training step is forward and backward, without an optimizer. The results are saved in latency.json: after an
interruption, repeat the command to continue where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from attn_mm.errors import UserError, reports_user_errors
from attn_mm.graft.fuse import fuse
from attn_mm.layers import as_written
from attn_mm.run.cpu import keep_freed_memory
from attn_mm.utils.figures import MAX_WIDTH, SMALL, plot, save
from attn_mm.utils.files import write_atomically
from attn_mm.utils.flags import add_device_flag, positive
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table
from benchmarks.networks import BACKBONES, MODULES, PEERS, USUAL, config
from benchmarks.published import PUBLISHED
from benchmarks.timing import captured, device_name, open_record, peak_memory, ratios, summary, take_turns

_FORMATS = {"nchw": {}, "channels_last": {4: torch.channels_last, 5: torch.channels_last_3d}}
_MODES = ("inference", "training")


class Case(NamedTuple):
    """One row of the table."""

    module: str
    backbone: str
    mode: str
    layout: str
    dtype: str
    batch: int

    @property
    def key(self) -> str:
        return " ".join(map(str, self))


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def choices(flag: str, known: Sequence[str], default: Sequence[str], text: str) -> None:
        parser.add_argument(
            flag, nargs="+", choices=list(known), default=list(default), metavar="NAME", help=text
        )

    choices("--modules", MODULES, USUAL, f"any of {', '.join(MODULES)} (default: {' '.join(USUAL)})")
    choices("--backbones", BACKBONES, ["r50"], f"any of {', '.join(BACKBONES)} (default: r50)")
    choices("--mode", _MODES, _MODES, "inference, training (default: both)")
    choices("--layout", _FORMATS, ["nchw"], "nchw, channels_last (default: nchw)")
    choices("--dtype", ["fp32", "bf16"], ["fp32"], "fp32, bf16 by autocast (default: fp32)")
    parser.add_argument("--batch", nargs="+", type=positive, default=[8], metavar="N", help="default: 8")
    parser.add_argument(
        "--graphs",
        action="store_true",
        help="replay the steps as CUDA graphs, to measure only the device's time",
    )
    parser.add_argument("--repeats", type=positive, default=15, help="turns (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads")
    add_device_flag(parser)
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu measures only this process's CPU time; use it with --threads 1 on a busy machine "
        "(default: wall)",
    )
    parser.add_argument(
        "--papers", action="store_true", help="measure the modules and backbones of the papers' tables"
    )
    parser.add_argument(
        "--peers", action="store_true", help=f"measure {', '.join(PEERS)} and timm's layers of these in turns"
    )
    parser.add_argument("--quick", action="store_true", help="measure a tiny network with batch 2 in 3 turns")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for latency.json, .md and .png")
    args = parser.parse_args(argv)
    if args.repeats < 2:
        parser.error("--repeats must be at least 2 to compute quartiles")
    if args.graphs and not args.device.startswith("cuda"):
        parser.error(f"--graphs needs a CUDA device, got {args.device}")
    if args.quick and args.papers:
        parser.error("give either --quick or --papers")
    if args.peers:
        if args.papers:
            parser.error("give either --peers or --papers")
        args.modules = list(PEERS) if args.modules == list(USUAL) else args.modules
        if without := [module for module in args.modules if module not in PEERS]:
            parser.error(f"--peers has {', '.join(PEERS)}, and timm has no {', '.join(without)}")
    if args.quick:
        args.backbones, args.batch, args.repeats = ["tiny"], [2], 3
    return args


def published_networks() -> list[tuple[str, str]]:
    """The module and backbone of each network in the papers' tables."""
    return list(dict.fromkeys((row.module, row.backbone) for row in PUBLISHED))


def build(case: Case, grafts: list[dict] | None, device: str) -> nn.Module:
    """Build the network of ``case`` with those grafts, or the plain one for None."""
    torch.manual_seed(0)
    try:
        net = MODELS.build(config(case.backbone, grafts))
    except (KeyError, UserError) as error:
        raise UserError(f"{case.backbone} with {grafts} can't be built: {error}") from error
    return prepare(net, case, device)


def prepare(net: nn.Module, case: Case, device: str) -> nn.Module:
    """Move ``net`` to the device, in the layout and mode of ``case``."""
    for parameter in net.parameters():
        if memory_format := _FORMATS[case.layout].get(parameter.dim()):
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    net.to(device).train(case.mode == "training")
    return net


def images(case: Case, device: str) -> Tensor:
    x = torch.randn(case.batch, *BACKBONES[case.backbone].shape, device=device)
    return x.contiguous(memory_format=_FORMATS[case.layout].get(x.dim(), torch.contiguous_format))


def make_step(net: nn.Module, x: Tensor, case: Case) -> Callable[[], None]:
    """Make a function that runs one step of inference or training."""
    autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=case.dtype == "bf16")

    def forward() -> tuple[Tensor, ...]:
        with autocast:
            maps = net(x)
        return (maps,) if isinstance(maps, Tensor) else tuple(maps)

    if case.mode == "inference":

        def infer() -> None:
            with torch.inference_mode():
                forward()

        return infer

    grads: list[Tensor] = []

    def train() -> None:
        net.zero_grad(set_to_none=True)
        maps = forward()
        if not grads:
            grads.extend(torch.randn_like(y) for y in maps)
        torch.autograd.backward(maps, grads)

    return train


class Form(NamedTuple):
    """One way to compute a case."""

    net: nn.Module
    step: Callable[[], None]


def forms_of(case: Case, device: str, peers: bool = False) -> dict[str, Form]:
    """The forms of ``case``, by name; with ``peers``, timm's layer is one of them."""
    x = images(case, device)
    plain, own = build(case, None, device), build(case, MODULES[case.module], device)
    ours = make_step(own, x, case)

    def naive() -> None:
        with as_written():
            ours()

    forms = {
        "plain": Form(plain, make_step(plain, x, case)),
        "ours": Form(own, ours),
        "naive": Form(own, naive),
    }
    if peers:
        peer = build(case, PEERS[case.module], device)
        return {**forms, "timm": Form(peer, make_step(peer, x, case))}
    if case.mode == "inference":
        for name, net in (("folded", own), ("plain folded", plain)):
            folded = copy.deepcopy(net)
            fuse(folded)
            forms[name] = Form(folded, make_step(folded, x, case))
    return forms


def measure(case: Case, device: str, repeats: int, clock: str, graphs: bool, peers: bool = False) -> dict:
    """Measure one case and return its record.

    Args:
        case: the case.
        device: device to run on.
        repeats: turns of each form.
        clock: ``"wall"`` or ``"cpu"``.
        graphs: replay the steps as CUDA graphs.
        peers: measure timm's layer too.
    """
    forms = forms_of(case, device, peers)
    steps = {name: captured(form.step) if graphs else form.step for name, form in forms.items()}
    return dict(
        case._asdict(),
        params={name: sum(p.numel() for p in form.net.parameters()) for name, form in forms.items()},
        seconds=take_turns(steps, repeats, clock, device),
        memory={name: peak_memory(*form, device) for name, form in forms.items()},
    )


def ratio(record: dict, form: str, to: str = "plain") -> dict[str, float] | None:
    """Median and quartiles of the ratio of two forms' times in the same turn; None without the form."""
    times = record["seconds"]
    if form not in times:
        return None
    return summary(ratios(times[form], times[to]))


def _cell(values: dict[str, float] | None) -> str:
    return "" if values is None else f"{values['median']:.3f} ({values['q1']:.3f}-{values['q3']:.3f})"


def _rows(records: list[dict]) -> Iterator[tuple[str, ...]]:
    for record in records:
        memory = record["memory"]
        plain = statistics.median(record["seconds"]["plain"])
        yield (
            record["module"],
            record["backbone"],
            record["mode"],
            record["layout"],
            record["dtype"],
            str(record["batch"]),
            f"{record['params']['ours'] / record['params']['plain']:.3f}",
            _cell(ratio(record, "ours")),
            _cell(ratio(record, "naive")),
            _cell(ratio(record, "timm")),
            _cell(ratio(record, "folded")),
            _cell(ratio(record, "folded", to="plain folded")),
            f"{memory['ours'] / memory['plain']:.3f}",
            f"{memory['naive'] / memory['plain']:.3f}" if "naive" in memory else "",
            f"{memory['timm'] / memory['plain']:.3f}" if "timm" in memory else "",
            f"{1000 * plain:.1f}",
            f"{memory['plain'] / 2**20:.0f}",
        )


_HEADER = (
    *Case._fields,
    "parameters",
    "ours",
    "naive",
    "timm",
    "folded",
    "both folded",
    "memory, ours",
    "memory, naive",
    "memory, timm",
    "plain, ms",
    "plain, MiB",
)


def about_lines(about: dict) -> list[str]:
    return [
        "Ratios to the plain backbone: of parameters; of time, the median (and quartiles) of "
        f"{about['repeats']} turns; of a step's peak memory, weights and gradients included. Both "
        "folded: to the plain backbone that is folded, too.",
        "",
        f"{about['device']}, torch {about['torch']}, {about['threads']} threads, {about['clock']} clock"
        + (", steps replayed as CUDA graphs." if about["graphs"] else "."),
    ]


def report(records: list[dict], about: dict) -> str:
    """Format the table as Markdown."""
    table = markdown_table(_HEADER, list(_rows(records)), _HEADER[5:])
    return "\n".join(["# Latency", "", *about_lines(about), "", table]) + "\n"


def papers_table(records: list[dict]) -> str:
    """A Markdown table of the published and the measured figures."""
    header = ("where", "module", "backbone", "mode", "published", "ours", "published memory", "ours, memory")
    rows = []
    for row in PUBLISHED:
        for record in records:
            if (record["module"], record["backbone"], record["mode"]) != (row.module, row.backbone, row.mode):
                continue
            memory = record["memory"]["ours"] / record["memory"]["plain"]
            rows.append(
                (
                    row.where,
                    row.module,
                    row.backbone,
                    f"{row.mode}, {record['layout']} {record['dtype']}, batch {record['batch']}",
                    f"{row.time:.2f}",
                    _cell(ratio(record, "ours")),
                    f"{row.memory:.2f}" if row.memory else "",
                    f"{memory:.2f}" if row.memory else "",
                )
            )
    return markdown_table(header, rows, header[4:]) if rows else "Nothing of the papers' is measured yet."


def papers_report(records: list[dict], about: dict) -> str:
    """Format the published and the measured figures side by side as Markdown."""
    table = papers_table(records)
    return "\n".join(["# What the papers publish", "", *about_lines(about), "", table]) + "\n"


def draw(records: list[dict], path: Path) -> None:
    """Plot each case's time relative to the plain backbone's, a row each, and name its parameters."""
    rows = sorted(records, key=_row)
    figure, (axes,) = plot(width=MAX_WIDTH, height=1 + 0.26 * len(rows))
    for form, marker, face in (("ours", "o", "C0"), ("naive", "s", "white")):
        found = [(place, ratio(record, form)) for place, record in enumerate(rows)]
        timed = [(place, values) for place, values in found if values is not None]
        middles = [values["median"] for _, values in timed]
        ends = zip(*((v["median"] - v["q1"], v["q3"] - v["median"]) for _, v in timed))
        look = dict(fmt=marker, color="C0" if form == "ours" else "C1", markerfacecolor=face, capsize=2)
        axes.errorbar(
            middles,
            [place + (0.12 if form == "naive" else -0.12) for place, _ in timed],
            xerr=list(ends),
            label=form,
            **look,
        )
    axes.set_yticks(range(len(rows)), [_row(record) for record in rows], fontsize=SMALL)
    axes.invert_yaxis()
    axes.axvline(1, color="gray", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel="time / that of the plain backbone")
    axes.legend()
    save(figure, path)


def _row(record: dict) -> str:
    added = 100 * (record["params"]["ours"] / record["params"]["plain"] - 1)
    what = "{mode}: {module}, {backbone}, {batch}, {dtype}, {layout}".format(**record)
    return f"{what}, +{added:.1f} % params"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.device == "cpu":
        keep_freed_memory()
    try:
        torch.empty(1, device=args.device)
        args.work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--work-dir {args.work_dir} can't be made ({error.strerror})") from error
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"--device {args.device}: {str(error).splitlines()[0]}") from error
    about = dict(
        device=device_name(args.device),
        torch=torch.__version__,
        threads=args.threads,
        repeats=args.repeats,
        clock=args.clock,
        graphs=args.graphs,
        **({"peers": True} if args.peers else {}),
    )
    path = args.work_dir / "latency.json"
    record = open_record(path, about)
    nets = published_networks() if args.papers else product(args.modules, args.backbones)
    settings = list(product(args.mode, args.layout, args.dtype, args.batch))
    cases = [Case(*net, *setting) for net in nets for setting in settings]
    todo = [case for case in cases if case.key not in record["cases"]]
    interrupted = False
    with progress_bar() as progress:
        task = progress.add_task("cases", total=len(todo))
        for case in todo:
            progress.update(task, description=case.key)
            try:
                record["cases"][case.key] = measure(
                    case,
                    device=args.device,
                    repeats=args.repeats,
                    clock=args.clock,
                    graphs=args.graphs,
                    peers=args.peers,
                )
            except torch.cuda.OutOfMemoryError:
                progress.console.print(f"skipped, out of memory: {case.key}", markup=False)
            except KeyboardInterrupt:
                interrupted = True
                break
            write_atomically(path, json.dumps(record, indent=1) + "\n")
            progress.advance(task)
    records = list(record["cases"].values())
    text = report(records, about)
    write_atomically(args.work_dir / "latency.md", text)
    if args.papers:
        text = papers_report(records, about)
        write_atomically(args.work_dir / "papers.md", text)
    if records:
        draw(records, args.work_dir / "latency.png")
    print(text, end="")
    if interrupted:
        print("interrupted: repeat the command to continue where it stopped", file=sys.stderr)
        raise SystemExit(130)


if __name__ == "__main__":
    main()
