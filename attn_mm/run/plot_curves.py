"""``attn-mm plot-curves``: plot the training curves of several runs together."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from attn_mm.errors import UserError, readable, reports_user_errors
from attn_mm.run.curves import Curve, Record, Run, join, read_curves
from attn_mm.utils import figures
from attn_mm.utils.files import check_regular, make_folder, write_atomically
from attn_mm.utils.parser import CommandParser

_DESCRIPTION = """\
Compare training runs: plot the loss and a validation metric by epoch, one line per run.

  %(prog)s work_dirs/fcos-r50_plain_coco work_dirs/fcos_tdaf_r50
  %(prog)s work_dirs/plain work_dirs/tdaf --names "ResNet-50" "with TDAF" --out curves
  %(prog)s work_dirs/fcos_* --loss loss_cls --figure coco/bbox_mAP_50
"""

_EPILOG = """\
The logs come from attn-mm train, with or without --demo, or from a framework's own training tool. The
command writes curves.png and curves.json into the output folder. More: docs/tdaf_analyses.md
"""

LOGS = "*/vis_data/scalars.json"
# What is drawn unless --figure says otherwise, the first that all runs have.
FIGURES = (
    "coco/bbox_mAP",
    "pascal_voc/mAP",
    "coco/AP",
    "accuracy/top1",
    "acc/top1",
    "multi-label/mAP",
    "single-label/f1-score",
)


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    parser.add_argument(
        "logs", nargs="+", type=Path, metavar="LOG", help="a run's work dir, or its scalars.json"
    )
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="one name per run, in order (default: the folder names)"
    )
    parser.add_argument(
        "--loss", default="loss", metavar="KEY", help="loss to plot (default: %(default)s, the total)"
    )
    parser.add_argument(
        "--figure", metavar="KEY", help="validation metric to plot (default: the usual one for the task)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/curves"), metavar="DIR", help="default: %(default)s"
    )
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def read_log(path: Path) -> Run:
    """Read the curves of a run; in a work dir, join the logs of a run that was resumed.

    Raises:
        UserError: there is no log, or mmengine didn't write it.
    """
    files = [path]
    if os.path.isdir(path):
        files = sorted(path.glob(LOGS))
        if not files:
            raise UserError(f"{path} contains no {LOGS}: name a run's work dir, or its scalars.json")
    try:
        return read_curves(join([_records(file) for file in files]))
    except ValueError as error:
        raise UserError(f"{path}: {error}; name the log of a training run") from error


def _records(path: Path) -> list[Record]:
    check_regular(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line, parse_int=_whole) for line in lines if line.strip()]
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a scalars.json of mmengine: a line isn't JSON") from error
    if not all(isinstance(record, dict) and _is_count(record.get("step")) for record in records):
        raise UserError(f"{path} is not a scalars.json of mmengine: a line's step is no whole number")
    if not all(_is_count(record.get("epoch", 1)) for record in records):
        raise UserError(f"{path} is not a scalars.json of mmengine: an epoch is no whole number")
    return records


def _whole(digits: str) -> float:
    """A whole number, which Python reads at any size; a float if it is larger than any step."""
    return int(digits) if len(digits) < 18 else float(digits)


def _is_count(value: object) -> bool:
    """Whether a value is a whole number that a float holds exactly; Matplotlib can't draw any."""
    return isinstance(value, (int, float)) and abs(value) < 2**53 and value == int(value)


def names_of(paths: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """The runs' names; UserError if their number is wrong or two are the same."""
    if names is None:
        names = [_name_of(path.resolve()) for path in paths]
        if len(set(names)) < len(names):
            names = [str(path) for path in paths]
    if len(names) != len(paths):
        raise UserError(f"--names has {len(names)} names for {len(paths)} runs: give one per run")
    if len(set(names)) < len(names):
        raise UserError("two runs have the same name: give each its own with --names")
    return list(names)


def _name_of(path: Path) -> str:
    """The name of the work dir, or of the file if the log isn't in one."""
    if path.is_dir():
        return path.name
    return path.parents[2].name if len(path.parents) > 2 and path.match(LOGS) else path.stem


def broken(curve: Curve) -> float | None:
    """Where a curve first has a value that isn't finite, such as a diverged loss."""
    return next((x for x, value in curve if not math.isfinite(value)), None)


def _finite(curve: Curve) -> list[tuple[float, float | None]]:
    """The curve with None for values that aren't finite: JSON allows None, and a plot leaves a gap."""
    return [(x, value if math.isfinite(value) else None) for x, value in curve]


def _end(key: str, curve: Curve, unit: str) -> str:
    """Summarise a curve for the run's printed line."""
    at = broken(curve)
    return f"{key} {curve[-1][1]:.4g}" if at is None else f"{key} not finite from {unit} {at:.4g}"


def figure_key(runs: Sequence[Run], wanted: str | None) -> str | None:
    """The validation metric to draw; None if no run was validated.

    Raises:
        UserError: a run lacks the wanted metric, or the runs have none in common.
    """
    common = set.intersection(*(set(run.figures) for run in runs))
    if wanted is None:
        if not any(run.figures for run in runs):
            return None
        if not common:
            raise UserError("the runs have no validation metric in common")
        return next((key for key in FIGURES if key in common), min(common))
    if wanted not in common:
        raise UserError(
            f"--figure {wanted} is not in all logs; in common: {', '.join(sorted(common)) or 'none'}"
        )
    return wanted


def plot(names: Sequence[str], runs: Sequence[Run], loss: str, figure: str | None, path: Path) -> None:
    """Draw the loss of every run and, beside it, the validation metric."""
    keys = [loss] if figure is None else [loss, figure]
    drawing, panels = figures.plot(len(keys), height=3.6)
    for axes, key in zip(panels, keys):
        for name, run in zip(names, runs):
            curve = run.losses[key] if key == loss else run.figures[key]
            # One point alone would not be seen as a line.
            marker = "o" if len(curve) < 15 else None
            at = broken(curve)
            label = name if at is None else f"{name} (not finite from {run.unit} {at:.4g})"
            axes.plot(*zip(*_finite(curve)), marker=marker, markersize=3.5, linewidth=1.4, label=label)
        axes.set_xlabel(runs[0].unit)
        axes.set_title(f"training: {key}" if key == loss else f"validation: {key}", fontsize=11)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=figures.SMALL)
    figures.save(drawing, path)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    runs = [read_log(path) for path in args.logs]
    names = [readable(name) for name in names_of(args.logs, args.names)]
    if len({run.unit for run in runs}) > 1:
        raise UserError("some runs count epochs and others only iterations: plot them separately")
    for path, run in zip(args.logs, runs):
        if args.loss not in run.losses:
            raise UserError(f"--loss {args.loss} is not in {path}; it has {', '.join(run.losses)}")
    figure = figure_key(runs, args.figure)
    make_folder(args.out)
    plot(names, runs, args.loss, figure, args.out / "curves.png")
    record = dict(
        unit=runs[0].unit,
        loss=args.loss,
        figure=figure,
        runs=[
            dict(
                name=name,
                log=str(path),
                loss=_finite(run.losses[args.loss]),
                figure=_finite([] if figure is None else run.figures.get(figure, [])),
            )
            for name, path, run in zip(names, args.logs, runs)
        ],
    )
    write_atomically(args.out / "curves.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    for name, run in zip(names, runs):
        ends = [_end(args.loss, run.losses[args.loss], run.unit)]
        ends += [_end(figure, run.figures[figure], run.unit)] if figure else []
        print(f"{name}: {', '.join(ends)}")
    print(f"{args.out / 'curves.png'}")
