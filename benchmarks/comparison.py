"""Compare networks trained with several seeds each: a summary, a table and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from attn_mm.run.series import mean_and_std, summary
from attn_mm.utils.figures import plot, save
from attn_mm.utils.tables import markdown_table
from benchmarks.significance import paired_difference

PLAIN = "plain"


def summarised(
    runs: Iterable[dict],
    nets: Sequence[str],
    metric: str,
    baselines: Mapping[str, str] | None = None,
) -> list[dict]:
    """Sum up the runs of each network.

    Args:
        runs: each with its ``net``, ``seed``, ``parameters`` and the metric.
        nets: the order of the networks; those without a run are left out.
        metric: the name of what is compared, in percent.
        baselines: what networks are compared with, where it isn't the plain network.

    Returns:
        for each network its name, parameters, seeds, the metric (mean, sample standard deviation, values) and
        the difference from its baseline (mean, n, p), None for a baseline or without a common seed.
    """
    baselines = baselines or {}
    by_net: dict[str, dict[int, dict]] = {}
    for run in sorted(runs, key=lambda run: (nets.index(run["net"]), run["seed"])):
        by_net.setdefault(run["net"], {})[run["seed"]] = run
    found = {net: {seed: run[metric] for seed, run in mine.items()} for net, mine in by_net.items()}
    rows = []
    for net, mine in by_net.items():
        baseline = baselines.get(net, PLAIN)
        compared = net != PLAIN and net not in baselines.values()
        difference = paired_difference(found[net], found.get(baseline, {})) if compared else None
        rows.append(
            {
                "net": net,
                "parameters": next(iter(mine.values()))["parameters"],
                "seeds": list(mine),
                metric: summary(list(found[net].values())),
                "difference": difference and difference._asdict(),
            }
        )
    return rows


def table(figures: Mapping[str, Sequence[dict]]) -> str:
    """The table of networks: a column for each metric, and the differences of the first one.

    Args:
        figures: the rows of :func:`summarised` by metric, of the same runs.
    """
    first = next(iter(figures))
    header = ("network", "parameters", *(f"{metric}, mean (std)" for metric in figures), "n")
    cells = []
    for same in zip(*figures.values(), strict=True):
        row = same[0]
        found, count = row["difference"], len(row["seeds"])
        difference = f"{found['mean']:+.2f}" if found else ""
        if found and found["n"] != count:
            difference += f" of {found['n']}"
        p = "" if not found or found["p"] is None else _p_value(found["p"])
        means = (mean_and_std(one[metric]) for one, metric in zip(same, figures))
        cells.append((row["net"], f"{row['parameters']:,}", *means, str(count), difference, p))
    header += ("difference" if len(figures) == 1 else f"difference of {first}", "p")
    return markdown_table(header, cells, header[1:])


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def draw(rows: Sequence[dict], metric: str, path: Path) -> None:
    """Plot each seed's result as a dot, the mean and the standard deviation of each network beside it."""
    figure, (axes,) = plot(width=1.5 + 0.9 * len(rows), height=4)
    for place, row in enumerate(rows):
        found = row[metric]
        dots = axes.scatter([place - 0.12] * len(found["values"]), found["values"], s=22, alpha=0.7)
        colour = dots.get_facecolor()[0]
        axes.errorbar(place + 0.12, found["mean"], found["std"], fmt="D", color=colour, capsize=4)
        if row["net"] == PLAIN:
            axes.axhline(found["mean"], color="0.5", linestyle="--", linewidth=1, zorder=0)
    axes.set_xticks(range(len(rows)), [row["net"] for row in rows])
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set(ylabel=f"{metric} in %", title="dot: a seed; diamond and bar: mean and std")
    axes.title.set_fontsize(10)
    axes.grid(axis="y", alpha=0.3)
    save(figure, path)
