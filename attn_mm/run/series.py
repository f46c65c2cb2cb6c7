"""Runs that belong together, such as a config with several seeds: a folder each, and none is run twice."""

from __future__ import annotations

import copy
import math
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from attn_mm.errors import Terminated, UserError
from attn_mm.run.results import numbers, read_metrics, write_results
from attn_mm.run.resume import resume_from
from attn_mm.run.training import fit, sole_run
from attn_mm.utils.config import load_config
from attn_mm.utils.files import make_folder, write_atomically

_NAME = "config.py"
# What doesn't change the results of a run.
_PLACES = ("work_dir", "launcher", "experiment_name")


def check_comparable(cfg: Config) -> None:
    """Check that runs of a config start anew and end with a validation; UserError if they don't."""
    if cfg.get("val_dataloader") is None:
        raise UserError(f"{cfg.filename} has no val_dataloader: runs are compared by their validation")
    if cfg.get("resume"):
        raise UserError(
            f"{cfg.filename} continues another run, so its seeds wouldn't differ: add --cfg-options "
            "resume=False load_from=None"
        )


def check_same(cfg: Config, out: Path, runs: Iterable[Config]) -> None:
    """Write the config that the runs in a folder share, or compare it with the one that is there.

    Args:
        cfg: the shared config.
        out: the folder.
        runs: the configs of the runs, each with its work dir in the folder.

    Raises:
        UserError: the folder has runs of another or an unknown config, or its config can't be read or
            written.
    """
    about = make_folder(out) / _NAME
    if about.exists():
        try:
            found = load_config(str(about))
        except UserError as error:
            raise UserError(f"{error}; remove {out}, or name another --work-dir") from error
        own, theirs = _settings(cfg), _settings(found)
        if own != theirs:
            differing = min(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
            raise UserError(
                f"{out} has runs with another {differing} in their config: remove that folder, or name "
                "another --work-dir"
            )
    elif is_main_process():
        foreign = next((run.work_dir for run in runs if Path(run.work_dir).exists()), None)
        if foreign:
            raise UserError(
                f"{foreign} may be a run of another config, because {about} is missing: remove that folder, "
                "or name another --work-dir"
            )
        write_atomically(about, cfg.pretty_text)


def _settings(cfg: Config) -> dict:
    """The config as it reads after being dumped to a file, without the names of folders and processes."""
    read = Config.fromstring(cfg.pretty_text, ".py").to_dict()
    return {key: value for key, value in read.items() if key not in _PLACES}


def with_seed(cfg: Config, seed: int, folder: Path) -> Config:
    """A copy of a config for a run with a seed in a folder."""
    cfg = copy.deepcopy(cfg)
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=seed)
    cfg.work_dir = str(folder)
    # mmengine keeps loggers by this name, and runs may start within a second.
    cfg.experiment_name = "_".join(folder.parts[-2:])
    return cfg


def metrics_of_runs(runs: Mapping[str, Config], verbose: bool = False) -> Iterator[dict[str, float]]:
    """The :func:`finished_metrics` of each run, one after the other; says on stderr which run it is.

    Args:
        runs: configs by the names to say, such as "seed 0".
        verbose: show mmengine's whole log on the screen.
    """
    for place, (name, run) in enumerate(runs.items(), start=1):
        print(f"{place} of {len(runs)}: {name}", file=sys.stderr)
        yield finished_metrics(run, verbose)


def finished_metrics(cfg: Config, verbose: bool = False) -> dict[str, float]:
    """The metrics of a run's last validation that are numbers; trains or continues an unfinished run.

    The run's ``results.json`` says that it is finished.

    Args:
        cfg: the run's config.
        verbose: show mmengine's whole log on the screen.
    """
    results = Path(cfg.work_dir, "results.json")
    if results.exists():
        return read_metrics(results)
    with sole_run(cfg):
        if any(Path(cfg.work_dir).glob("*.pth")):
            resume_from(cfg)
        try:
            runner, metrics = fit(cfg, verbose)
        except Terminated:
            # Its advice is to add --resume, which isn't needed here.
            raise Terminated from None
        if metrics.latest is None:
            # All epochs were done, and the end was not written.
            runner.val_loop.run()
        if runner.rank == 0:
            write_results(runner, results.name, metrics, epoch=runner.epoch, iteration=runner.iter)
    return numbers(metrics.latest or {})


def summary(values: Sequence[float]) -> dict:
    """Mean, sample standard deviation (None for one value) and values of a metric, by name."""
    # For values that are not finite, the functions of statistics fail.
    finite = all(map(math.isfinite, values))
    mean = statistics.fmean(values) if finite else sum(values) / len(values)
    deviation = None if len(values) < 2 else statistics.stdev(values) if finite else math.nan
    return {"mean": mean, "std": deviation, "values": list(values)}


def summaries(runs: Sequence[dict[str, float]]) -> dict[str, dict]:
    """The :func:`summary` of each metric that all runs have."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: summary([run[name] for run in runs]) for name in names}


def mean_and_std(found: dict) -> str:
    """Format a :func:`summary` as the papers do: "94.81 (0.12)"; four decimals for shares of 1."""
    decimals = 4 if all(abs(value) <= 1 for value in found["values"]) else 2
    deviation = "" if found["std"] is None else f" ({found['std']:.{decimals}f})"
    return f"{found['mean']:.{decimals}f}{deviation}"
