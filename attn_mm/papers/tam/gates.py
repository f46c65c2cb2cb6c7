"""``attn-mm gates``: run the analyses of the TAM paper on the gates of any network."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from mmengine.config import Config
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
from attn_mm.run.launch import open_config
from attn_mm.run.options import RunOptions, add_config_flags
from attn_mm.utils.extras import require
from attn_mm.utils.files import check_checkpoint, make_folder, write_atomically
from attn_mm.utils.flags import add_device_flag, from_args, positive
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial, identity
from attn_mm.utils.tables import markdown_table

_DESCRIPTION = """\
Analyse the gates of a network as in section 4 of the TAM paper. SE, CBAM, ECA, FCA, TAM, top-down attention
and AW-convolutions have gates. ANALYSIS --help explains the options of an analysis.

  %(prog)s scatter configs/tam/r50_tam_300e_cifar100.py epoch_300.pth
  %(prog)s lesion configs/tam/r50_tam_300e_cifar100.py epoch_300.pth --data-root cifar100
  %(prog)s lesion configs/tam/r18_tam_300e_cifar10.py --demo        needs no data or checkpoint
"""

_EPILOG = """\
Each analysis writes a picture and a JSON file, named after it, into the work dir. More: docs/tam_analyses.md
"""

_SCATTER = """\
Plot the mean and variance of each gate over its channels, positions or weights, one dot per test image
(figure 3 of the TAM paper). If all dots of a gate coincide, the gate doesn't depend on its input. A TAM
gate with zero variance is the same at every position.
"""
_LESION = """\
Plot the value of each gate by depth, and the config's own metrics with one gate opened at a time (figure 4
of the TAM paper). An open gate passes its input through unchanged. After an interruption, repeat the command
to continue where it stopped.
"""
_LINEARISE = """\
Evaluate the config's own metrics while more and more PReLUs inside TAM are made linear, by setting their
slopes to 1 (figure 5a of the TAM paper). PReLUs whose mean slope is closest to 1 come first. After an
interruption, repeat the command to continue where it stopped.
"""
_FILTERS = """\
Plot the mean variance of the filters of each residual block by depth, for one or several networks
(figure 5b of the TAM paper).

  %(prog)s filters configs/tam/r50_plain_300e_cifar100.py runs/plain/epoch_300.pth \\
                   configs/tam/r50_tam_300e_cifar100.py runs/tam/epoch_300.pth
"""


ANALYSES = {
    "scatter": ("plot mean and variance of each gate, one dot per test image", _SCATTER),
    "lesion": ("plot each gate's value by depth, and the metrics with one gate opened", _LESION),
    "linearise": ("plot the metrics with more and more of TAM's PReLUs made linear", _LINEARISE),
    "filters": ("plot the filter variance of each block of one or several networks", _FILTERS),
}
"""Short and full ``--help`` text of each analysis."""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    analyses = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")
    parsers = {
        name: analyses.add_parser(name, help=summary, description=description, epilog=_EPILOG)
        for name, (summary, description) in ANALYSES.items()
    }
    for name in ("scatter", "lesion", "linearise"):
        one = parsers[name]
        one.add_argument("config", help="config file")
        one.add_argument("checkpoint", nargs="?", help="checkpoint file; --demo trains one briefly instead")
        one.add_argument(
            "--images",
            type=positive,
            metavar="N",
            help="number of test images to use, evenly spaced (default: all)",
        )
    parsers["linearise"].add_argument(
        "--steps",
        type=positive,
        default=10,
        metavar="N",
        help="number of steps in which the PReLUs are made linear (default: %(default)s)",
    )
    parsers["filters"].add_argument(
        "networks",
        nargs="+",
        metavar="CONFIG CHECKPOINT",
        help="config and checkpoint of each network; with --demo, only configs",
    )
    parsers["filters"].add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="one name per network, in order (default: the config names)",
    )
    for one in parsers.values():
        add_config_flags(one)
        add_device_flag(one)
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


@dataclass(frozen=True)
class Network:
    """A trained network to analyse.

    Attributes:
        config, checkpoint: files of the network. Without a checkpoint, a demo is trained.
        options: changes to the config. A launcher isn't allowed: resuming works in a single process only.
        device: device to run on.
    """

    config: str
    checkpoint: str | None
    options: RunOptions
    device: str

    def open(self) -> tuple[Config, str, nn.Module]:
        """Load the config, the checkpoint and the model; UserError if one of them is missing or invalid."""
        if not self.checkpoint and not self.options.demo:
            raise UserError("give a checkpoint, or --demo to train one")
        if self.checkpoint:
            check_checkpoint(self.checkpoint)
        cfg = open_config(self.config, self.options)
        checkpoint = self.checkpoint or demo_checkpoint(cfg)
        return cfg, checkpoint, load_model(cfg, checkpoint, self.device)


def open_gates(model: nn.Module, config: str) -> list[Gate]:
    """Find the gates of a model; UserError if it has none."""
    gates = find_gates(model)
    if not gates:
        raise UserError(
            f"{config} has no gate: its model needs a layer such as attn_mm's SE, CBAM, ECA, FCA, TAM, TD or "
            "AWConv"
        )
    return gates


def write(out: Path, name: str, record: dict) -> None:
    """Write ``record`` as ``name``.json, and print where it and its picture are."""
    write_atomically(out / f"{name}.json", json.dumps(record) + "\n")
    print(f"{out / name}.png, {out / name}.json")


def describe(seen: Sequence[Seen]) -> list[dict]:
    """The gates by depth, with their overall mean and variance, for JSON."""
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


def scatter(network: Network, images: int | None = None) -> None:
    """Make figure 3 from this number of test images; None: all."""
    cfg, checkpoint, model = network.open()
    gates = open_gates(model, network.config)
    test_set = Evaluation(cfg, images)
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
    write(out, "scatter", dict(_about(network, checkpoint, test_set), metrics=metrics, gates=described))


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _about(network: Network, checkpoint: str, test_set: Evaluation) -> dict:
    return dict(config=network.config, checkpoint=checkpoint, images=test_set.images)


def _partial(analysis: str, work_dir: str, as_given: str, checkpoint: str, images: int | None) -> Partial:
    about = dict(config=as_given, checkpoint=identity(checkpoint), images=images)
    return Partial(make_folder(work_dir) / f"{analysis}.json.partial", about, flag="--work-dir")


def lesion(network: Network, images: int | None = None) -> None:
    """Make figure 4 from this number of test images; None: all."""
    cfg, checkpoint, model = network.open()
    gates = {gate.name: gate for gate in open_gates(model, network.config)}
    as_given = cfg.pretty_text
    test_set = Evaluation(cfg, images)
    with (
        _partial("lesion", cfg.work_dir, as_given, checkpoint, images) as partial,
        progress_bar() as progress,
    ):
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
    record = dict(_about(network, checkpoint, test_set), metrics=whole["metrics"], gates=described)
    write(out, "lesion", record)
    partial.path.unlink(missing_ok=True)


def linearise(network: Network, images: int | None = None, steps: int = 10) -> None:
    """Make figure 5a from ``images`` test images (None: all), making the PReLUs linear in ``steps`` steps."""
    cfg, checkpoint, model = network.open()
    layers = sloped_layers(model)
    if not layers:
        raise UserError(f"{network.config} has no PReLU inside a TAM: use a config with attn_mm.TAM")
    as_given = cfg.pretty_text
    test_set = Evaluation(cfg, images)
    numbers = sorted({round(step * len(layers) / steps) for step in range(steps + 1)})
    with (
        _partial("linearise", cfg.work_dir, as_given, checkpoint, images) as partial,
        progress_bar() as progress,
    ):
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
    record = dict(_about(network, checkpoint, test_set), layers=described, points=points)
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


def filters(
    files: Sequence[str], options: RunOptions, device: str, names: Sequence[str] | None = None
) -> None:
    """Make figure 5b.

    Args:
        files: config and checkpoint of each network; for demos, only the config.
        options: changes to each config; the results go into ``work_dir``.
        device: device to run on.
        names: names of the networks; None: the config names.
    """
    pairs = _pairs(files, options.demo)
    names = network_names([(config, checkpoint or config) for config, checkpoint in pairs], names)
    networks = []
    for name, (config, checkpoint) in zip(names, pairs):
        work_dir = options.work_dir and str(Path(options.work_dir, f"{Path(config).stem}_demo"))
        network = Network(config, checkpoint, replace(options, work_dir=work_dir), device)
        _, checkpoint, model = network.open()
        blocks = block_variances(model)
        if not blocks:
            raise UserError(f"{config} has no residual block that attn_mm knows, such as a ResNet's")
        networks.append(dict(name=name, config=config, checkpoint=checkpoint, blocks=blocks))
    out = make_folder(options.work_dir or "work_dirs/filters")
    print(filter_table(networks))
    draw_filters(networks, out / "filters.png")
    write(out, "filters", dict(networks=networks))


def _pairs(networks: Sequence[str], demo: bool) -> list[tuple[str, str | None]]:
    """The config and checkpoint of each network from the command line."""
    if demo:
        return [(config, None) for config in networks]
    if len(networks) % 2:
        raise UserError(f"give CONFIG CHECKPOINT for each network, got {len(networks)} files")
    return list(zip(networks[::2], networks[1::2]))


_RESUMABLE = ("lesion", "linearise")


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    require("matplotlib")
    options = from_args(RunOptions, args)
    if args.analysis == "filters":
        filters(args.networks, options, args.device, args.names)
        return
    network = Network(args.config, args.checkpoint, options, args.device)
    with resumable() if args.analysis in _RESUMABLE else nullcontext():
        if args.analysis == "scatter":
            scatter(network, args.images)
        elif args.analysis == "lesion":
            lesion(network, args.images)
        else:
            linearise(network, args.images, args.steps)
