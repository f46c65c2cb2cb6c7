"""Train a config with every combination of some options' values, and compare what comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from attn_mm.describe.build import build
from attn_mm.describe.counting import count_parameters
from attn_mm.describe.without_attention import without_attention
from attn_mm.errors import UserError
from attn_mm.run.launch import join_processes
from attn_mm.run.series import (
    check_comparable,
    check_same,
    mean_and_std,
    metrics_of_runs,
    summaries,
    with_seed,
)
from attn_mm.run.training import check_training
from attn_mm.run.vary import Option, as_text, with_values
from attn_mm.utils.figures import plot, save
from attn_mm.utils.files import write_atomically
from attn_mm.utils.tables import markdown_table

PLAIN = "plain"
NAME = "ablate"
# A file system allows 255 bytes; the rest is for what a run adds.
_LONGEST_NAME = 200
_UNFIT = re.compile(r"[^\w.,=()\[\]{}'+-]", re.ASCII)


@dataclass(frozen=True)
class Variant:
    """One network of an ablation; ``chosen`` is empty for the network without attention."""

    cfg: Config
    chosen: tuple[tuple[Option, Any], ...] = ()

    @property
    def name(self) -> str:
        """A name for tables, plots and folders."""
        return "_".join(f"{option.name}={as_text(value)}" for option, value in self.chosen) or PLAIN

    @property
    def folder(self) -> str:
        """The name; where a file system doesn't take it, what it takes of it and a hash."""
        fit = _UNFIT.sub("-", self.name)[:_LONGEST_NAME]
        known = sha256(self.name.encode(errors="surrogateescape")).hexdigest()[:8]
        return fit if fit == self.name else f"{fit}-{known}"


def variants(cfg: Config, options: Sequence[Option], plain: bool = False) -> list[Variant]:
    """The networks of an ablation: every combination of the options' values.

    Args:
        cfg: the config to vary.
        options: the options with their values; the last one changes fastest.
        plain: whether the network without attention is the first.

    Raises:
        UserError: ``plain``, and the network has no attention; or an option is given twice.
    """
    paths = [path for option in options for path in option.paths]
    for option in options:
        if any(paths.count(path) > 1 for path in option.paths):
            raise UserError(f"--vary {option.name} is given twice: give all of its values at once")
    found = []
    if plain:
        without = without_attention(cfg)
        if without is None:
            raise UserError(f"--plain: the network of {cfg.filename} has no attention to leave out")
        found.append(Variant(without))
    for values in product(*(option.values for option in options)):
        chosen = tuple(zip(options, values))
        found.append(Variant(with_values(cfg, chosen), chosen))
    return found


def parameters(variant: Variant) -> int:
    """Count the parameters of a variant's model; UserError if it can't be built."""
    try:
        return count_parameters(build(variant.cfg, "meta")).params
    except UserError as error:
        raise UserError(f"{variant.name}: {error}") from error


def ablate(
    cfg: Config,
    chosen: Sequence[Variant],
    seeds: Sequence[int],
    out: Path,
    metric: str | None = None,
    verbose: bool = False,
) -> None:
    """Train the variants of a config with each seed, and write a table, a plot and JSON.

    A finished run is kept; an unfinished one continues.

    Args:
        cfg: the config that is varied.
        chosen: the variants, see :func:`variants`.
        seeds: the seeds.
        out: folder of the runs and the results.
        metric: validation metric to compare by; None: the first one.
        verbose: show mmengine's whole log on the screen.

    Raises:
        UserError: a variant can't be built, the folder has runs of another config, or the validation lacks
            the metric.
    """
    check_comparable(cfg)
    sizes = [parameters(variant) for variant in chosen]
    # The first seed of all variants comes before the second of any.
    runs = [
        (variant, seed, with_seed(variant.cfg, seed, out / variant.folder / f"seed{seed}"))
        for seed in seeds
        for variant in chosen
    ]
    for _, _, run in runs:
        check_training(run)
    join_processes(cfg)
    check_same(cfg, out, [run for _, _, run in runs])
    found: dict[str, list[dict[str, float]]] = {variant.name: [] for variant in chosen}
    named = {f"{variant.name}, seed {seed}": run for variant, seed, run in runs}
    for (variant, _, _), metrics in zip(runs, metrics_of_runs(named, verbose), strict=True):
        metric = metric or next(iter(metrics))
        if metric not in metrics:
            raise UserError(f"--metric {metric} is unknown; the validation has {', '.join(metrics)}")
        found[variant.name].append(metrics)
    if not is_main_process() or metric is None:
        return
    rows = [row(variant, size, found[variant.name]) for variant, size in zip(chosen, sizes)]
    record = {"config": cfg.filename, "metric": metric, "seeds": list(seeds), "networks": rows}
    table = ablation_table(rows, metric)
    draw_ablation(rows, metric, out / f"{NAME}.png")
    write_atomically(out / f"{NAME}.json", json.dumps(record, indent=2) + "\n")
    write_atomically(out / f"{NAME}.md", table + "\n")
    print(table)
    print(f"{out / NAME}.json, {NAME}.md, {NAME}.png, {NAME}.svg")


def row(variant: Variant, size: int, runs: Sequence[dict[str, float]]) -> dict:
    """What is written of a variant: its options, parameters, and each metric over the seeds."""
    return {
        "name": variant.name,
        "options": {option.name: as_text(value) for option, value in variant.chosen},
        "parameters": size,
        "metrics": summaries(runs),
    }


def ablation_table(rows: Sequence[dict], metric: str) -> str:
    """A row per network: its options, its parameters, and mean and standard deviation of the metric."""
    names = _option_names(rows)
    values = rows[0]["metrics"][metric]["values"]
    measured = f"{metric}, mean (std) of {len(values)}" if len(values) > 1 else metric
    header = ("network", *names, "parameters", measured)
    cells = [
        (
            PLAIN if row["name"] == PLAIN else "",
            *(row["options"].get(name, "") for name in names),
            f"{row['parameters']:,}",
            mean_and_std(row["metrics"][metric]),
        )
        for row in rows
    ]
    return markdown_table(header, cells, header[-2:])


def _option_names(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["options"]))


def draw_ablation(rows: Sequence[dict], metric: str, path: Path) -> None:
    """Plot the metric over the values of the first option, a line for each combination of the others.

    A mark's area grows with the network's parameters; bars are a standard deviation long on either side; the
    dashed line is the network without attention.
    """
    figure, (axes,) = plot(width=6, height=4)
    varied = [row for row in rows if row["options"]]
    plain = next((row for row in rows if not row["options"]), None)
    first, *others = _option_names(rows) or [""]
    places = list(dict.fromkeys(row["options"][first] for row in varied))
    sizes = [row["parameters"] for row in rows]
    span = max(1, max(sizes) - min(sizes))
    lines = dict.fromkeys(tuple(row["options"][name] for name in others) for row in varied)
    for number, line in enumerate(lines):
        mine = [row for row in varied if tuple(row["options"][name] for name in others) == line]
        at = [places.index(row["options"][first]) + 0.06 * (number - (len(lines) - 1) / 2) for row in mine]
        found = [row["metrics"][metric] for row in mine]
        means = [one["mean"] for one in found]
        label = ", ".join(f"{name}={value}" for name, value in zip(others, line)) or None
        bars = axes.errorbar(at, means, [one["std"] or 0 for one in found], capsize=3, alpha=0.7, label=label)
        areas = [30 + 170 * (row["parameters"] - min(sizes)) / span for row in mine]
        axes.scatter(at, means, areas, bars.lines[0].get_color(), alpha=0.8)
    if plain is not None:
        level = plain["metrics"][metric]
        label = f"{PLAIN} (band: std)" if level["std"] else PLAIN
        axes.axhline(level["mean"], color="0.4", linestyle="--", label=label)
        if level["std"]:
            axes.axhspan(level["mean"] - level["std"], level["mean"] + level["std"], color="0.85", zorder=0)
    axes.set_xticks(range(len(places)), places)
    axes.margins(x=0.1)
    axes.set(xlabel=f"{first} (area of a mark: parameters)", ylabel=_axis(rows, metric))
    axes.grid(alpha=0.3)
    if plain is not None or others:
        axes.legend()
    save(figure, path)


def _axis(rows: Sequence[dict], metric: str) -> str:
    seeds = len(rows[0]["metrics"][metric]["values"])
    return f"{metric}, mean and std of {seeds} seeds" if seeds > 1 else metric
