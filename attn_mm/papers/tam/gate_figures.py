"""Draw the figures of ``attn-mm gates`` from its JSON files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from attn_mm.run.evaluation import shown_metrics
from attn_mm.utils.extras import require
from attn_mm.utils.figures import SMALL, plot, save

_GREY = "0.6"


def draw_scatter(gates: Sequence[dict], path: Path) -> None:
    """Draw figure 3: each sample's gate variance against its mean, one panel per part of the gates.

    The colour is the gate's depth; a large dot is the mean over a gate's samples.
    """
    parts = list(dict.fromkeys(part for gate in gates for part in gate["parts"]))
    figure, axes = plot(len(parts))
    depths = require("matplotlib").colormaps["viridis"].resampled(len(gates))
    norm = require("matplotlib.colors").BoundaryNorm([0.5 + i for i in range(len(gates) + 1)], len(gates))
    for panel, part in zip(axes, parts):
        own = [(number, gate["parts"][part]) for number, gate in enumerate(gates, 1) if part in gate["parts"]]
        for large in (False, True):
            for number, samples in own:
                means, variances = samples["sample_mean"], samples["sample_variance"]
                if large:
                    means, variances = [sum(means) / len(means)], [sum(variances) / len(variances)]
                look = (
                    dict(s=70, edgecolors="white", linewidths=1)
                    if large
                    else dict(s=4, alpha=0.5, linewidths=0, rasterized=True)
                )
                panel.scatter(means, variances, color=depths(norm(number)), **look)
        panel.set(xlabel="mean of a sample's gate", ylabel="variance", title=f"over {part}")
        panel.set_xlim(-0.02, 1.02)
        _from_zero(panel)
    shades = require("matplotlib.cm").ScalarMappable(norm, depths)
    step = -(-len(gates) // 8)
    figure.colorbar(shades, ax=list(axes), label="gate, by depth", ticks=range(1, len(gates) + 1, step))
    save(figure, path)


def draw_lesion(gates: Sequence[dict], metrics: dict[str, float], path: Path) -> None:
    """Draw figure 4: (a) gate values by depth, (b) metrics with each gate opened; dashed: none opened."""
    figure, (values, lesion) = plot(2)
    depths = range(1, 1 + len(gates))
    for part in dict.fromkeys(part for gate in gates for part in gate["parts"]):
        own = [(depth, gate["parts"][part]) for depth, gate in zip(depths, gates) if part in gate["parts"]]
        values.errorbar(
            [depth for depth, _ in own],
            [part["mean"] for _, part in own],
            [part["variance"] ** 0.5 for _, part in own],
            marker="o",
            capsize=2,
            label=f"over {part}",
        )
    values.set(ylabel="gate, mean and standard deviation", title="value by depth")
    values.set_ylim(-0.02, 1.02)
    for name in shown_metrics(metrics):
        (line,) = lesion.plot(depths, [gate["metrics"][name] for gate in gates], marker="o", label=name)
        lesion.axhline(metrics[name], linestyle="--", color=line.get_color(), linewidth=1)
    lesion.set_title("one gate opened (dashed: none)")
    _name_metrics(lesion, metrics)
    values.legend(fontsize=SMALL)
    for panel in (values, lesion):
        _mark_stages(panel, [gate["stage"] for gate in gates])
    save(figure, path)


def draw_linearisation(points: Sequence[dict], path: Path) -> None:
    """Draw figure 5a: the metrics against the share of linear PReLUs."""
    figure, (panel,) = plot()
    for name in shown_metrics(points[0]["metrics"]):
        shares = [100 * point["share"] for point in points]
        panel.plot(shares, [point["metrics"][name] for point in points], marker="o", label=name)
    panel.set(xlabel="layers with a slope of 1 (%)", title="PReLUs of TAM made linear")
    _name_metrics(panel, points[0]["metrics"])
    save(figure, path)


def draw_filters(networks: Sequence[dict], path: Path) -> None:
    """Draw figure 5b: the mean filter variance of each block by depth, one line per network.

    If several networks have the same number of blocks, a second panel shows the ratios to the first network.
    """
    lines = {network["name"]: [block["variance"] for block in network["blocks"]] for network in networks}
    first, *others = lines
    comparable = others and len({len(variances) for variances in lines.values()}) == 1
    figure, panels = plot(2 if comparable else 1)
    for name, variances in lines.items():
        depths = range(1, 1 + len(variances))
        panels[0].plot(depths, variances, marker="o", label=name)
        if comparable:
            ratios = [variance / base for variance, base in zip(variances, lines[first])]
            panels[1].plot(depths, ratios, marker="o", label=name)
    panels[0].set(ylabel="mean variance of a filter", yscale="log")
    if comparable:
        panels[1].set_ylabel(f"variance / that of {first}")
    for panel in panels:
        panel.set_xlabel("residual block")
        _whole_numbers(panel)
        panel.legend(fontsize=SMALL)
    save(figure, path)


def _mark_stages(panel, stages: Sequence[int]) -> None:
    """Draw a line between gates of different stages."""
    for depth, (before, after) in enumerate(pairwise(stages), 1):
        if before != after:
            panel.axvline(depth + 0.5, color=_GREY, linewidth=0.8, linestyle=":")
    panel.set_xlabel("gate, by depth (dotted: another stage)")
    _whole_numbers(panel)


def _whole_numbers(panel) -> None:
    panel.xaxis.get_major_locator().set_params(integer=True)


def _from_zero(panel) -> None:
    """Keep variances that are all nearly 0 from filling the height of the axis."""
    top = max(panel.get_ylim()[1], 1e-3)
    panel.set_ylim(-0.03 * top, top)


def _name_metrics(panel, metrics: dict[str, float]) -> None:
    """Label the metrics, and keep small changes from filling the height of the axis."""
    names = shown_metrics(metrics)
    if len(names) == 1:
        panel.set_ylabel(names[0])
    else:
        panel.legend(fontsize=SMALL)
    low, high = panel.get_ylim()
    missing = max(0, 0.1 * high - (high - low)) / 2
    panel.set_ylim(low - missing, high + missing)
