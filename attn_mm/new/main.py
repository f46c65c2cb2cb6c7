"""``attn-mm new``: write a config for a data set of your own."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from attn_mm.errors import UserError, printable, reports_user_errors
from attn_mm.new.network import BACKBONES, NONE, attention_named
from attn_mm.new.plan import Plan, Wishes, annotations_folder
from attn_mm.new.rehearsal import rehearse
from attn_mm.new.tasks import action, classification, detection, pose
from attn_mm.new.writing import formatted, write
from attn_mm.utils.files import check_target
from attn_mm.utils.flags import count, from_args, positive
from attn_mm.utils.parser import CommandParser

_DESCRIPTION = """\
Look at your data, say what is wrong with it, and write a short config that trains on it.

  %(prog)s detection --data DIR                boxes in COCO's, VOC's or YOLO's format
  %(prog)s pose --data DIR                     keypoints in COCO's format
  %(prog)s classification --data DIR           a folder of images for each class
  %(prog)s action --data DIR                   a folder of videos for each class
  %(prog)s detection --data DIR --backbone resnet18 --attention CBAM --size 512 --name cells
"""

_TASKS: dict[str, ModuleType] = {
    "detection": detection,
    "pose": pose,
    "classification": classification,
    "action": action,
}
_FORMATS = ("coco", "voc", "yolo")
# The stride of a ResNet's last stage.
_SMALLEST_SIZE = 32


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("task", choices=[*_TASKS])
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the data, or one COCO file in it"
    )
    parser.add_argument(
        "--format", choices=_FORMATS, help="format of a detection set (default: recognised by its files)"
    )
    parser.add_argument(
        "--backbone", choices=BACKBONES, default="resnet50", help="3D for actions (default: %(default)s)"
    )
    parser.add_argument(
        "--attention",
        nargs="+",
        default=["TD"],
        metavar="NAME",
        help="what attn_mm.list_attention() names, or none for the plain network (default: TD)",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--name", default="my", help="write NAME.py here (default: %(default)s)")
    target.add_argument("--out", type=Path, metavar="FILE", help="write this file instead")
    parser.add_argument(
        "--size",
        type=positive,
        metavar="PIXELS",
        help="detection: longest side of an image; pose: height of a person; classification and action: "
        "side of the square (default: by your images; 256 for pose, 112 for action)",
    )
    parser.add_argument("--epochs", type=positive, metavar="N", help="length of the training")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="of a random split (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace an existing config and its annotations")
    return parser


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    args.attention = tuple(map(attention_named, args.attention))
    if NONE in args.attention and len(args.attention) > 1:
        raise UserError("--attention none can't be combined with others")
    target = args.out or Path(f"{args.name}.py")
    if target.suffix != ".py":
        raise UserError(f"--out {target}: the name of a config ends with .py")
    if not re.fullmatch(r"[\w.-]+", target.stem):
        raise UserError(
            f"{target.stem!r} can't be the name of a config: use letters, digits, hyphens and underscores"
        )
    # mmengine puts the folder of a config into its text.
    if re.search(r"""["\\]|{{""", str(target.absolute())) or not str(target.absolute()).isprintable():
        raise UserError(f"the folder {str(target.absolute().parent)!r} can't have a config: rename it")
    if args.size and args.size < _SMALLEST_SIZE:
        raise UserError(f"--size {args.size} is too small: networks need {_SMALLEST_SIZE} pixels or more")
    args.data = args.data.absolute()
    if not args.data.exists():
        raise UserError(f"--data {args.data} does not exist")
    if args.format and args.task != "detection":
        raise UserError(f"--format is for detection; {args.task} needs none")
    folder = target.with_name(annotations_folder(target.stem))
    check_target(target, "", args.force)
    if folder.exists() and not args.force:
        raise UserError(f"{folder} exists; --force replaces its files")
    module, extra = _TASKS[args.task].PACKAGE
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{module} is not installed: pip install 'attn-mm[{extra},lite]'")
    _make(_TASKS[args.task].plan, target, from_args(Wishes, args))


def _make(plan_of: Callable[[str, Wishes], Plan], target: Path, wishes: Wishes) -> None:
    """Plan a config, try it, write it, and say what was done."""
    plan = plan_of(target.stem, wishes)
    for line in [*plan.report.found, *(f"wrong: {line}" for line in plan.report.wrong)]:
        print(printable(line), flush=True)
    config = formatted(plan)
    with tempfile.TemporaryDirectory() as trial:
        write(Path(trial, target.name), config, plan.files)
        warnings, parameters = rehearse(Path(trial, target.name), target)
    for line in warnings:
        print(printable(f"wrong: {line}"))
    for path in write(target, config, plan.files):
        print(f"wrote {path}")
    print(f"network: {plan.network}; {parameters:,} parameters")
    print(f"next: attn-mm train {target}")
