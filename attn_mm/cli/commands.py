"""The table of the commands of ``attn-mm``. A new command is a line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of ``attn-mm``.

    Attributes:
        name: its name on the command line.
        group: heading above it in the overview.
        module: module whose ``main(argv)`` runs it and whose ``make_parser()`` describes its options. It is
            imported only when the command runs.
        help: what it does, in one line.
    """

    name: str
    group: str
    module: str
    help: str


_RUN = "Train and use a network"
_LOOK = "Choose and inspect a network"
_ANALYSE = "Repeat a paper's analysis"

COMMANDS = {
    command.name: command
    for command in (
        Command("new", _RUN, "attn_mm.new.main", "a config for your own data, written for you"),
        Command("train", _RUN, "attn_mm.run.train", "train any config; --demo needs no data"),
        Command("test", _RUN, "attn_mm.run.test", "evaluate a checkpoint on its config's test set"),
        Command("infer", _RUN, "attn_mm.inference.infer", "predict on images and videos, draw the result"),
        Command("explore", _RUN, "attn_mm.explorer.explore", "a web page with every attention map"),
        Command("eval-video", _RUN, "attn_mm.run.eval_video", "top-1 and top-5 of clips and whole videos"),
        Command(
            "make-bbox-file",
            _RUN,
            "attn_mm.inference.make_bbox_file",
            "detect the persons for the evaluation of pose configs",
        ),
        Command("fuse", _RUN, "attn_mm.deploy.fuse", "fold batch norms for deployment, export to ONNX"),
        Command("plot-curves", _RUN, "attn_mm.run.plot_curves", "compare the curves of training runs"),
        Command("list", _LOOK, "attn_mm.papers.list_configs", "the configs: parameters, MACs, results"),
        Command("describe", _LOOK, "attn_mm.describe.main", "a network's parts and what attention adds"),
        Command("complexity", _LOOK, "attn_mm.papers.complexity", "count parameters and multiply-adds"),
        Command("where", _LOOK, "attn_mm.describe.where", "where attention can go in a network"),
        Command("convert", _LOOK, "attn_mm.papers.td.convert", "load a checkpoint of the TD authors"),
        Command("completion", _LOOK, "attn_mm.cli.completion", "complete commands and options in your shell"),
        Command("ablate", _ANALYSE, "attn_mm.papers.ablate", "train every combination of some options"),
        Command("gates", _ANALYSE, "attn_mm.papers.tam.gates", "analyse a network's gates (TAM)"),
        Command("localise", _ANALYSE, "attn_mm.papers.td.localise", "boxes from activation maps (TD)"),
        Command(
            "resolution-sweep",
            _ANALYSE,
            "attn_mm.papers.td.resolution_sweep",
            "test classifiers at several resolutions (TD)",
        ),
        Command(
            "step-confidence",
            _ANALYSE,
            "attn_mm.papers.td.step_confidence",
            "evaluate each computation step of a classifier (TD)",
        ),
        Command("ltpa", _ANALYSE, "attn_mm.papers.ltpa.main", "the analyses of Learn to pay attention"),
    )
}
"""Every command by its name, in the order of the overview."""
