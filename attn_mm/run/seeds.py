"""Train a config with several seeds, and sum up what comes out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from attn_mm.errors import UserError, resumable
from attn_mm.run.launch import join_processes
from attn_mm.run.options import RunOptions
from attn_mm.run.series import (
    check_comparable,
    check_same,
    mean_and_std,
    metrics_of_runs,
    summaries,
    summary,
    with_seed,
)
from attn_mm.run.training import check_training, open_training
from attn_mm.utils.files import write_atomically
from attn_mm.utils.tables import markdown_table

_NAME = "seeds"


def train_seeds(config: str, options: RunOptions, seeds: Sequence[int], **changes: bool) -> None:
    """Train a config once per seed, each in its folder of the work dir, and write a table and JSON.

    A finished run is kept; an unfinished one continues.

    Args:
        config: path of the config.
        options: changes to the config.
        seeds: the seeds.
        changes: see :func:`attn_mm.run.training.open_training`.

    Raises:
        UserError: an argument or the data is invalid, or the work dir has runs of another config.
    """
    if "randomness.seed" in (options.cfg_options or {}):
        raise UserError("--cfg-options randomness.seed: --seeds sets it, leave it out")
    cfg = open_training(config, options, **changes)
    check_comparable(cfg)
    runs = {seed: with_seed(cfg, seed, Path(cfg.work_dir, f"seed{seed}")) for seed in seeds}
    for run in runs.values():
        check_training(run)
    join_processes(cfg)
    with resumable():
        check_same(cfg, Path(cfg.work_dir), runs.values())
        named = {f"seed {seed}": run for seed, run in runs.items()}
        found = list(metrics_of_runs(named, options.verbose))
    if is_main_process():
        _write(cfg, list(runs), found)


def _write(cfg: Config, seeds: list[int], found: list[dict[str, float]]) -> None:
    metrics, partial = summaries(found), _partial(found, seeds)
    lines = [seeds_table(metrics, seeds) if metrics else "no metric is available for all seeds"]
    lines += [
        f"{name}: only of seed{'s' * (len(values) > 1)} {', '.join(map(str, values))}"
        for name, values in partial.items()
    ]
    record = {"config": cfg.filename, "seeds": seeds, "metrics": metrics, "partial": partial}
    target = Path(cfg.work_dir, _NAME)
    write_atomically(target.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    write_atomically(target.with_suffix(".md"), "\n\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"{target}.json, {_NAME}.md")


def _partial(found: Sequence[dict[str, float]], seeds: Sequence[int]) -> dict[str, dict[int, float]]:
    """The metrics that some seeds lack, as a detector that finds nothing lacks its AP: by name and seed."""
    names = dict.fromkeys(name for run in found for name in run)
    values = {
        name: {seed: run[name] for seed, run in zip(seeds, found, strict=True) if name in run}
        for name in names
    }
    return {name: of_seeds for name, of_seeds in values.items() if len(of_seeds) < len(seeds)}


def seeds_table(metrics: dict[str, dict], seeds: Sequence[int]) -> str:
    """A row per metric: mean and sample standard deviation, and the value of each seed's run."""
    header = ("metric", "mean (std)" if len(seeds) > 1 else "mean", *(f"seed {seed}" for seed in seeds))
    rows = [
        (name, mean_and_std(found), *(mean_and_std(summary([value])) for value in found["values"]))
        for name, found in metrics.items()
    ]
    return markdown_table(header, rows, header[1:])
