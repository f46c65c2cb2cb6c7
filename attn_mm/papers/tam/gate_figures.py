"""Draw the figures of ``attn-mm gates`` from its JSON files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from attn_mm.run.evaluation import shown_metrics
from attn_mm.utils.figures import pyplot
from attn_mm.utils.files import writing

# Inches of one panel, and pixels of an inch.
_PANEL, _DPI = (4.2, 3.2), 100
_GREY = "0.6"


def draw_scatter(gates: Sequence[dict], path: Path) -> None:
    """Draw figure 3: each sample's gate variance against its mean, one panel per part of the gates."""
    parts = list(dict.fromkeys(part for gate in gates for part in gate["parts"]))
    plt, figure, axes = _figure(len(parts))
    colours = plt.get_cmap("viridis")
    for panel, part in zip(axes, parts):
        middles = {}
        for number, gate in enumerate(gates, 1):
            if part in gate["parts"]:
                samples = gate["parts"][part]
                means, variances = samples["sample_mean"], samples["sample_variance"]
                colour = colours((number - 1) / max(1, len(gates) - 1))
                panel.scatter(means, variances, s=4, color=colour, alpha=0.5, linewidths=0)
                middles[number] = sum(means) / len(means), sum(variances) / len(variances)
        for place, number in enumerate(sorted(middles, key=lambda gate: middles[gate])):
            # Neighbours at different heights.
            lifted = 14 + 14 * (place % 5)
            panel.annotate(str(number), middles[number], (0, lifted), textcoords="offset points", **_LABEL)
        panel.set(xlabel="mean of a sample's gate", ylabel="variance", title=f"over {part}")
        panel.set_xlim(-0.02, 1.02)
        _from_zero(panel)
    _save(plt, figure, path)


_LABEL = dict(
    ha="center",
    va="center",
    fontsize=8,
    bbox=dict(boxstyle="circle,pad=0.15", facecolor="white", edgecolor=_GREY, linewidth=0.5, alpha=0.85),
    arrowprops=dict(arrowstyle="-", color=_GREY, linewidth=0.5),
)


def draw_lesion(gates: Sequence[dict], metrics: dict[str, float], path: Path) -> None:
    """Draw figure 4: (a) gate values by depth, (b) metrics with each gate opened; dashed: none opened."""
    plt, figure, (values, lesion) = _figure(2)
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
    values.legend(fontsize=8)
    for panel in (values, lesion):
        _mark_stages(panel, [gate["stage"] for gate in gates])
    _save(plt, figure, path)


def draw_linearisation(points: Sequence[dict], path: Path) -> None:
    """Draw figure 5a: the metrics against the share of linear PReLUs."""
    plt, figure, (panel,) = _figure(1)
    for name in shown_metrics(points[0]["metrics"]):
        shares = [100 * point["share"] for point in points]
        panel.plot(shares, [point["metrics"][name] for point in points], marker="o", label=name)
    panel.set(xlabel="layers with a slope of 1 (%)", title="PReLUs of TAM made linear")
    _name_metrics(panel, points[0]["metrics"])
    _save(plt, figure, path)


def draw_filters(networks: Sequence[dict], path: Path) -> None:
    """Draw figure 5b: the mean filter variance of each block by depth, one line per network.

    If several networks have the same number of blocks, a second panel shows the ratios to the first network.
    """
    lines = {network["name"]: [block["variance"] for block in network["blocks"]] for network in networks}
    first, *others = lines
    comparable = others and len({len(variances) for variances in lines.values()}) == 1
    plt, figure, panels = _figure(2 if comparable else 1)
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
        panel.legend(fontsize=8)
    _save(plt, figure, path)


def _figure(panels: int):
    plt = pyplot()
    size = (_PANEL[0] * panels, _PANEL[1])
    figure, axes = plt.subplots(1, panels, figsize=size, squeeze=False, layout="constrained")
    return plt, figure, axes[0]


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
        panel.legend(fontsize=8)
    low, high = panel.get_ylim()
    missing = max(0, 0.1 * high - (high - low)) / 2
    panel.set_ylim(low - missing, high + missing)


def _save(plt, figure, path: Path) -> None:
    with writing(path):
        figure.savefig(path, dpi=_DPI)
    plt.close(figure)
