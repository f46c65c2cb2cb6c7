"""``tools/gates.py``: the analyses of the TAM paper, of any network's gates."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from attn_mm.errors import UserError, reports_user_errors, resumable
from attn_mm.frameworks.loading import load_model
from attn_mm.papers.classifiers import network_names
from attn_mm.papers.tam.block_filters import block_variances, filter_table
from attn_mm.papers.tam.gate_figures import draw_filters, draw_lesion, draw_linearisation, draw_scatter
from attn_mm.papers.tam.open_gates import Gate, Seen, find_gates, stages, watch
from attn_mm.papers.tam.slopes import SlopedLayer, linearised, sloped_layers
from attn_mm.run.demo_networks import demo_checkpoint
from attn_mm.run.evaluation import Evaluation, shown_metrics
from attn_mm.run.launch import add_config_flags, open_config
from attn_mm.utils.extras import require
from attn_mm.utils.files import check_checkpoint, make_folder, write_atomically
from attn_mm.utils.flags import positive
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial, identity
from attn_mm.utils.tables import markdown_table

_DESCRIPTION = """\
What the gates of a network do: the analyses of the TAM paper (section 4). Gates are those of SE, CBAM,
ECA, FCA, TAM, top-down attention and AW-convolutions.

  gates.py scatter configs/tam/r50_tam_300e_cifar100.py epoch_300.pth
  gates.py lesion configs/tam/r50_tam_300e_cifar100.py epoch_300.pth --data-root cifar100
  gates.py lesion configs/tam/r18_tam_300e_cifar10.py --demo        no data, no checkpoint
"""

_EPILOG = """\
Each writes a picture and a JSON file of its name into the work dir. docs/tam_analyses.md says more.
"""

_SCATTER = """\
Mean and variance of each gate over its channels, positions or weights, a dot for each test sample
(figure 3 of the TAM paper). A gate whose dots are all in one place does not depend on its input; TAM's
without variance is the same at every position.
"""
_LESION = """\
Value of each gate by depth, and the config's own metrics with one gate opened at a time: what it stands
on then flows through as it is (figure 4 of the TAM paper). An interrupted run goes on where it stopped
when it is started again.
"""
_LINEARISE = """\
The config's own metrics with ever more of the PReLUs inside TAM made linear, their slopes set to 1, those
first whose mean slope is closest to it (figure 5a of the TAM paper). An interrupted run goes on where it
stopped when it is started again.
"""
_FILTERS = """\
Mean variance of the filters of each residual block, by depth, of one or several networks (figure 5b of
the TAM paper).

  gates.py filters configs/tam/r50_plain_300e_cifar100.py runs/plain/epoch_300.pth \\
                   configs/tam/r50_tam_300e_cifar100.py runs/tam/epoch_300.pth
"""


def parse_args(argv=None) -> argparse.Namespace:
    style: dict[str, Any] = dict(epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser = argparse.ArgumentParser(description=_DESCRIPTION, **style)
    # One process: what it has done must be known when it is started again.
    parser.set_defaults(launcher="none", local_rank=0)
    analyses = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")
    parsers = {
        name: analyses.add_parser(name, help=summary, description=description, **style)
        for name, (_, summary, description) in ANALYSES.items()
    }
    for name in ("scatter", "lesion", "linearise"):
        one = parsers[name]
        one.add_argument("config", help="config file")
        one.add_argument(
            "checkpoint", nargs="?", help="checkpoint file; with --demo, a short training makes one"
        )
        one.add_argument(
            "--images", type=positive, metavar="N", help="of the test set, evenly spread (default: all)"
        )
    parsers["linearise"].add_argument(
        "--steps",
        type=positive,
        default=10,
        metavar="N",
        help="in so many the PReLUs become linear (default: %(default)s)",
    )
    parsers["filters"].add_argument(
        "networks",
        nargs="+",
        metavar="CONFIG CHECKPOINT",
        help="config and checkpoint of each network; with --demo configs alone",
    )
    parsers["filters"].add_argument(
        "--names", nargs="+", metavar="NAME", help="of the networks (default: the configs')"
    )
    for one in parsers.values():
        add_config_flags(one)
        one.add_argument(
            "--device", default=get_device(), help="default: %(default)s, the best there is here"
        )
    return parser.parse_args(argv)


def open_network(args: argparse.Namespace) -> tuple[Config, str, nn.Module]:
    """The config, the checkpoint and the model that the command line names."""
    if not args.checkpoint and not args.demo:
        raise UserError("name a checkpoint, or --demo, which trains one")
    if args.checkpoint:
        check_checkpoint(args.checkpoint)
    cfg = open_config(args)
    checkpoint = args.checkpoint or demo_checkpoint(cfg)
    return cfg, checkpoint, load_model(cfg, checkpoint, args.device)


def open_gates(model: nn.Module, config: str) -> list[Gate]:
    """The gates of a model; UserError where it has none."""
    gates = find_gates(model)
    if not gates:
        raise UserError(
            f"{config} has no gate: expected a layer that can be opened in its model, such as attn_mm's SE, "
            "CBAM, ECA, FCA, TAM, TD or AWConv"
        )
    return gates


def write(out: Path, name: str, record: dict) -> None:
    """Write ``record`` as ``name``.json, and say that the picture is beside it."""
    write_atomically(out / f"{name}.json", json.dumps(record) + "\n")
    print(f"{out / name}.png, {out / name}.json")


def describe(seen: Sequence[Seen]) -> list[dict]:
    """For JSON, the gates by depth, with mean and variance over everything."""
    return [
        {
            "name": one.gate.name,
            "type": one.gate.kind,
            "size": one.size,
            "stage": stage,
            "parts": {
                part: {"mean": statistics.mean, "variance": statistics.variance}
                for part, statistics in one.parts.items()
            },
        }
        for one, stage in zip(seen, stages([one.size for one in seen]))
    ]


def scatter(args: argparse.Namespace) -> None:
    """Figure 3."""
    cfg, checkpoint, model = open_network(args)
    gates = open_gates(model, args.config)
    test_set = Evaluation(cfg, args.images)
    out = make_folder(cfg.work_dir)
    with progress_bar() as progress, watch(gates) as seen:
        metrics = test_set.run(model, progress, progress.add_task("scatter", total=test_set.batches))
    described = describe(seen)
    rows = [
        (str(number), gate["name"], part, f"{values['mean']:.4f}", f"{values['variance']:.2e}")
        for number, gate in enumerate(described, 1)
        for part, values in gate["parts"].items()
    ]
    print(markdown_table(("", "gate", "over", "mean", "variance"), rows, ("", "mean", "variance")))
    for one, gate in zip(seen, described):
        for part, statistics in one.parts.items():
            gate["parts"][part]["sample_mean"] = _rounded(statistics.sample_mean)
            gate["parts"][part]["sample_variance"] = _rounded(statistics.sample_variance)
    draw_scatter(described, out / "scatter.png")
    write(out, "scatter", dict(_about(args, checkpoint, test_set), metrics=metrics, gates=described))


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _about(args: argparse.Namespace, checkpoint: str, test_set: Evaluation) -> dict:
    return dict(config=args.config, checkpoint=checkpoint, images=test_set.images)


def _partial(cfg: Config, as_given: str, checkpoint: str, args: argparse.Namespace) -> Partial:
    about = dict(config=as_given, checkpoint=identity(checkpoint), images=args.images)
    return Partial(make_folder(cfg.work_dir) / f"{args.analysis}.json.partial", about, flag="--work-dir")


def lesion(args: argparse.Namespace) -> None:
    """Figure 4."""
    cfg, checkpoint, model = open_network(args)
    gates = {gate.name: gate for gate in open_gates(model, args.config)}
    as_given = cfg.pretty_text
    test_set = Evaluation(cfg, args.images)
    with _partial(cfg, as_given, checkpoint, args) as partial, progress_bar() as progress:
        passes = 1 + len(gates)
        done = len(partial.found) * test_set.batches
        task = progress.add_task("lesion", total=passes * test_set.batches, completed=done)
        if "" not in partial.found:
            with watch(list(gates.values())) as seen:
                metrics = test_set.run(model, progress, task)
            partial.add("", dict(metrics=metrics, gates=describe(seen)))
        whole = partial.found[""]
        # A gate may be there that never runs.
        progress.update(task, total=(1 + len(whole["gates"])) * test_set.batches)
        for gate in whole["gates"]:
            if gate["name"] not in partial.found:
                with gates[gate["name"]].opened():
                    partial.add(gate["name"], test_set.run(model, progress, task))
    described = [dict(gate, metrics=partial.found[gate["name"]]) for gate in whole["gates"]]
    names = shown_metrics(whole["metrics"])
    rows = [("", "none", "", *(f"{whole['metrics'][name]:.4g}" for name in names))]
    rows += [
        (
            str(number),
            gate["name"],
            ", ".join(f"{values['mean']:.3f}" for values in gate["parts"].values()),
            *(f"{gate['metrics'][name]:.4g}" for name in names),
        )
        for number, gate in enumerate(described, 1)
    ]
    print(markdown_table(("", "opened", "mean", *names), rows, ("", "mean", *names)))
    out = Path(cfg.work_dir)
    draw_lesion(described, whole["metrics"], out / "lesion.png")
    record = dict(_about(args, checkpoint, test_set), metrics=whole["metrics"], gates=described)
    write(out, "lesion", record)
    partial.path.unlink(missing_ok=True)


def linearise(args: argparse.Namespace) -> None:
    """Figure 5a."""
    cfg, checkpoint, model = open_network(args)
    layers = sloped_layers(model)
    if not layers:
        raise UserError(f"{args.config} has no PReLU inside a TAM: expected attn_mm.TAM in its model")
    as_given = cfg.pretty_text
    test_set = Evaluation(cfg, args.images)
    numbers = sorted({round(step * len(layers) / args.steps) for step in range(args.steps + 1)})
    with _partial(cfg, as_given, checkpoint, args) as partial, progress_bar() as progress:
        done = sum(number in partial.found for number in numbers) * test_set.batches
        task = progress.add_task("linearise", total=len(numbers) * test_set.batches, completed=done)
        for number in numbers:
            if number not in partial.found:
                with linearised(layers[:number]):
                    partial.add(number, test_set.run(model, progress, task))
    points = [
        dict(linear=number, share=number / len(layers), metrics=partial.found[number]) for number in numbers
    ]
    _print_points(points, layers)
    out = Path(cfg.work_dir)
    draw_linearisation(points, out / "linearise.png")
    described = [dict(name=layer.name, slope=layer.slope) for layer in layers]
    record = dict(_about(args, checkpoint, test_set), layers=described, points=points)
    write(out, "linearise", record)
    partial.path.unlink(missing_ok=True)


def _print_points(points: Sequence[dict], layers: Sequence[SlopedLayer]) -> None:
    names = shown_metrics(points[0]["metrics"])
    rows = [
        (
            f"{point['linear']} of {len(layers)}",
            f"{layers[point['linear'] - 1].slope:.2g}" if point["linear"] else "",
            *(f"{point['metrics'][name]:.4g}" for name in names),
        )
        for point in points
    ]
    header = ("linear", "last mean slope", *names)
    print(markdown_table(header, rows, header))


def filters(args: argparse.Namespace) -> None:
    """Figure 5b."""
    pairs = _pairs(args.networks, args.demo)
    names = network_names([(config, checkpoint or config) for config, checkpoint in pairs], args.names)
    networks = []
    for name, (config, checkpoint) in zip(names, pairs):
        work_dir = args.work_dir and str(Path(args.work_dir, f"{Path(config).stem}_demo"))
        own = dict(config=config, checkpoint=checkpoint, work_dir=work_dir)
        _, checkpoint, model = open_network(argparse.Namespace(**{**vars(args), **own}))
        blocks = block_variances(model)
        if not blocks:
            raise UserError(f"{config} has no residual block of a kind that attn_mm knows")
        networks.append(dict(name=name, config=config, checkpoint=checkpoint, blocks=blocks))
    out = make_folder(args.work_dir or "work_dirs/filters")
    print(filter_table(networks))
    draw_filters(networks, out / "filters.png")
    write(out, "filters", dict(networks=networks))


def _pairs(networks: Sequence[str], demo: bool) -> list[tuple[str, str | None]]:
    """Config and checkpoint of each network on the command line."""
    if demo:
        return [(config, None) for config in networks]
    if len(networks) % 2:
        raise UserError(f"each network is a config and a checkpoint, got {len(networks)} files")
    return list(zip(networks[::2], networks[1::2]))


ANALYSES = {
    "scatter": (scatter, "mean and variance of each gate, a dot for each test sample", _SCATTER),
    "lesion": (lesion, "value of each gate by depth; the metrics with one of them opened", _LESION),
    "linearise": (linearise, "the metrics with ever more of TAM's PReLUs made linear", _LINEARISE),
    "filters": (filters, "variance of the filters of each block, of one or several networks", _FILTERS),
}
"""What does each, what ``--help`` says of it in a line, and what in full."""

_RESUMABLE = ("lesion", "linearise")


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    require("matplotlib")
    with resumable() if args.analysis in _RESUMABLE else nullcontext():
        ANALYSES[args.analysis][0](args)
