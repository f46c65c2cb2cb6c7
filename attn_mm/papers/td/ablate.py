"""``tools/ablate.py``: train the ablation study of top-down feedback, one network after the other.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.4 and figure 7: first
the attention's mode and the feedback distance m at a fixed number of steps, then the number of steps t.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.registry import MODELS, DefaultScope

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.describe.counting import weightless
from attn_mm.errors import ConfigError, UserError, reports_user_errors, resumable
from attn_mm.frameworks.demo_schedule import set_schedule
from attn_mm.run.demo_networks import TD, demo_config
from attn_mm.run.launch import build_runner, join_processes, open_config
from attn_mm.run.options import RunOptions, add_common_flags
from attn_mm.run.results import KeepMetrics, read_metrics, write_results
from attn_mm.run.resume import resume_from
from attn_mm.utils.config import drop_pretrained, load_config, walk
from attn_mm.utils.extras import require
from attn_mm.utils.figures import pyplot
from attn_mm.utils.files import write_atomically, writing
from attn_mm.utils.flags import count, from_args, positive
from attn_mm.utils.tables import markdown_table

_DESCRIPTION = """\
Train the ablation study of a config with top-down feedback (TD): joint and top attention at each feedback
distance m, then other numbers of steps t, and the network without feedback. The command trains all networks
and writes a table, a plot like figure 7 of the TD paper, and JSON. After an interruption, repeat the command
to continue where it stopped.

  ablate.py configs/td/r50_td-joint_125e_in1k.py --distances 0 1 2 3 --steps 1 2 3
  ablate.py configs/td/r18_td-top_125e_in1k.py --modes top --distances 1 --steps 1 2 3 4 5
  ablate.py --demo              trains eight small networks on generated images, minutes on a CPU
"""

MODES = ("joint", "top")
DISTANCES = (0, 1, 2, 3)
STEPS = (1, 2, 3)
DEMO_EPOCHS, DEMO_CHANNELS = 4, 8
_TD = "attn_mm.TD"
_NAME = "ablate"


@dataclass(frozen=True)
class Variant:
    """One network of the ablation; without feedback (t = 1), ``mode`` and ``distance`` are None."""

    mode: str | None
    distance: int | None
    steps: int

    @property
    def name(self) -> str:
        return f"{self.mode}_m{self.distance}_t{self.steps}" if self.mode else "plain"


PLAIN = Variant(None, None, 1)


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file with the graft attn_mm.TD")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="default: both")
    parser.add_argument(
        "--distances",
        nargs="+",
        type=count,
        metavar="M",
        help="feedback distances m to train (default: 0 to 3, if the config's blocks allow them)",
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        type=positive,
        default=STEPS,
        metavar="T",
        help="numbers of steps t to train; 1 means no feedback (default: 1 2 3)",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="validation metric to compare by (default: the first one)"
    )
    parser.add_argument(
        "--no-pretrained",
        action="store_true",
        help="train from scratch: download no weights and freeze no layers",
    )
    add_common_flags(parser)
    args = parser.parse_args(argv)
    if not (args.config or args.demo):
        parser.error("give a config with the graft attn_mm.TD, or --demo")
    return args


def feedback_of(cfg: Config) -> list[ConfigDict]:
    """Find the TD grafts in a config's model; UserError if there is none."""
    grafts = [node for node in walk(cfg.model) if node.get("type") == _TD]
    if not grafts:
        raise UserError(f"{cfg.filename} has no graft {_TD}: use a config with top-down feedback")
    return grafts


def with_variant(cfg: Config, variant: Variant) -> Config:
    """Make the config of a variant: a copy with the variant's TD options, or without TD."""
    cfg = copy.deepcopy(cfg)
    if variant == PLAIN:
        cfg.model = _without_feedback(cfg.model)
        return cfg
    for graft in feedback_of(cfg):
        graft.update(mode=variant.mode, distance=variant.distance, steps=variant.steps)
    return cfg


def _without_feedback(node):
    if isinstance(node, dict):
        grafts = node.get("grafts")
        if grafts and any(graft.get("type") == _TD for graft in grafts):
            others = [graft for graft in grafts if graft.get("type") != _TD]
            return ConfigDict(node, grafts=others) if others else node["backbone"]
        return ConfigDict({key: _without_feedback(value) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_without_feedback(each) for each in node)
    return node


def variants(cfg: Config, modes, distances, steps) -> list[Variant]:
    """List the networks to train, without repetition: no feedback, then mode and distance, then steps.

    Args:
        distances: feedback distances; None: those of ``DISTANCES`` that the config's blocks allow.

    Raises:
        ConfigError: the blocks don't allow a given distance.
    """
    own = feedback_of(cfg)[0]
    mode, distance, own_steps = own.get("mode", "joint"), own.get("distance", 1), own.get("steps", 2)
    found = [PLAIN]
    for each in DISTANCES if distances is None else distances:
        grid = [Variant(of, each, own_steps) for of in modes]
        try:
            parameters(with_variant(cfg, grid[0]))
        except ConfigError:
            if distances is not None:
                raise
            break
        found += grid
    found += [Variant(mode, distance, t) for t in steps if t > 1]
    return list(dict.fromkeys(found))


def parameters(cfg: Config) -> int:
    """Count the parameters of a config's model."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope), weightless():
        return sum(parameter.numel() for parameter in MODELS.build(cfg.model).parameters())


def train_variant(cfg: Config, folder: Path) -> dict[str, float]:
    """The metrics of a variant's last validation; trains or resumes it if it isn't finished."""
    results = folder / "results.json"
    if not results.exists():
        cfg.work_dir = str(folder)
        if any(folder.glob("*.pth")):
            resume_from(cfg)
        runner, metrics = build_runner(cfg), KeepMetrics()
        runner.register_hook(metrics)
        runner.train()
        if metrics.latest is None:
            # All epochs were done, and the end was not written.
            runner.val_loop.run()
        if runner.rank == 0:
            write_results(runner, results.name, metrics, epoch=runner.epoch, iteration=runner.iter)
        assert metrics.latest is not None
        return metrics.latest
    return read_metrics(results)


def open_ablation(config: str | None, options: RunOptions, pretrained: bool) -> Config:
    """Open the config to vary, with the options; without a config, a small network's."""
    if config:
        cfg = open_config(config, options)
    else:
        cfg = demo_config([TD], DEMO_CHANNELS)
        set_schedule(cfg, DEMO_EPOCHS, lr=1e-3)
        cfg.launcher = "none"
    if not pretrained:
        drop_pretrained(cfg)
    check_data(cfg, ("train", "val"))
    return cfg


def ablate(cfg: Config, chosen: Sequence[Variant], out: Path, metric: str | None = None) -> None:
    """Train the variants of a config, and write a table, a plot and JSON.

    Args:
        cfg: the config to vary.
        chosen: the variants, see :func:`variants`.
        out: folder of the runs and the results.
        metric: validation metric to compare by; None: the first one.

    Raises:
        UserError: the folder has runs of another config, or the validation lacks the metric.
    """
    join_processes(cfg)
    check_same(cfg, out)
    rows = []
    for place, variant in enumerate(chosen, start=1):
        print(f"{place} of {len(chosen)}: {variant.name}", file=sys.stderr)
        of_variant = with_variant(cfg, variant)
        metrics = train_variant(of_variant, out / variant.name)
        metric = metric or next(iter(metrics))
        if metric not in metrics:
            raise UserError(f"--metric {metric} is unknown; the validation has {', '.join(metrics)}")
        rows.append(
            dict(asdict(variant), name=variant.name, parameters=parameters(of_variant), metrics=metrics)
        )
    if not is_main_process():
        return
    assert metric is not None, "there are no variants"
    record = {"config": cfg.filename, "metric": metric, "variants": rows}
    draw_ablation(rows, metric, feedback_of(cfg)[0], out / f"{_NAME}.png")
    write_atomically(out / f"{_NAME}.json", json.dumps(record, indent=2) + "\n")
    print(ablation_table(rows, metric))
    print(f"{out / _NAME}.json, {_NAME}.png")


def check_same(cfg: Config, out: Path) -> None:
    """Raise UserError if the runs in a folder are of another config."""
    about = out / "config.py"
    with writing(about):
        out.mkdir(parents=True, exist_ok=True)
    if about.exists():
        try:
            same = load_config(str(about)).to_dict() == _plain(cfg)
        except UserError as error:
            raise UserError(f"{error}; remove it, or name another --work-dir") from error
        if not same:
            raise UserError(f"{out} has runs of another config: remove it, or name another --work-dir")
    elif is_main_process():
        write_atomically(about, cfg.pretty_text)


def _plain(cfg: Config) -> dict:
    """The config as it reads after being dumped to a file."""
    return Config.fromstring(cfg.pretty_text, ".py").to_dict()


def ablation_table(rows: list[dict], metric: str) -> str:
    header = ("network", "attention", "m", "t", "parameters", metric)
    cells = [
        (
            row["name"],
            row["mode"] or "",
            "" if row["distance"] is None else str(row["distance"]),
            str(row["steps"]),
            f"{row['parameters']:,}",
            f"{row['metrics'][metric]:.4g}",
        )
        for row in rows
    ]
    return markdown_table(header, cells, header[2:])


def draw_ablation(rows: list[dict], metric: str, own: dict, path: Path) -> None:
    """Plot the metric over the feedback distance, and over the steps (figure 7)."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    plain = next(row for row in rows if row["name"] == PLAIN.name)
    steps, mode, distance = own.get("steps", 2), own.get("mode", "joint"), own.get("distance", 1)
    smallest = min(row["parameters"] for row in rows)
    largest = max(row["parameters"] for row in rows)
    for of, marker in zip(MODES, ("o", "s")):
        points = sorted(
            (row["distance"], row["metrics"][metric], row["parameters"])
            for row in rows
            if row["mode"] == of and row["steps"] == steps
        )
        if points:
            places, values, sizes = zip(*points)
            (line,) = left.plot(places, values, alpha=0.6)
            # The area says how many parameters: from the fewest to the most here.
            areas = [40 + 260 * (size - smallest) / max(1, largest - smallest) for size in sizes]
            left.scatter(places, values, areas, line.get_color(), marker, label=f"{of}, t={steps}", alpha=0.8)
    left.axhline(plain["metrics"][metric], color="0.5", linestyle="--", label="without feedback")
    left.set(xlabel="feedback distance m (area: parameters)", ylabel=metric)
    left.set_xticks(sorted({row["distance"] for row in rows if row["distance"] is not None}))
    over = {1: plain["metrics"][metric]}
    over |= {
        row["steps"]: row["metrics"][metric]
        for row in rows
        if row["mode"] == mode and row["distance"] == distance
    }
    right.plot(sorted(over), [over[t] for t in sorted(over)], marker="o", label=f"{mode}, m={distance}")
    right.set_xticks(sorted(over))
    right.set(xlabel="steps t (1: without feedback)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(markerscale=0.7)
    with writing(path):
        figure.savefig(path, dpi=95)
    plt.close(figure)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    with resumable():
        require("matplotlib")
        cfg = open_ablation(args.config, from_args(RunOptions, args), not args.no_pretrained)
        stem = Path(args.config).stem if args.config else "td"
        out = Path(args.work_dir or Path("work_dirs", f"{_NAME}_{stem}" + ("_demo" if args.demo else "")))
        ablate(cfg, variants(cfg, args.modes, args.distances, args.steps), out, args.metric)
