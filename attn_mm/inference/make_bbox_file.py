"""``attn-mm make-bbox-file``: detect persons for mmpose's ``bbox_file``."""

from __future__ import annotations

import argparse
import json
import os.path as osp
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from torch.utils.data import DataLoader, Dataset

from attn_mm.datasets.checks.unreadable import ReadFile
from attn_mm.datasets.coco_files import Image, read_images
from attn_mm.errors import UnreadableFile, UserError, reports_user_errors, resumable
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmdet.predict import check_instances, inference_steps
from attn_mm.frameworks.mmpose.persons import person_label
from attn_mm.frameworks.pipelines import Pipeline
from attn_mm.utils.config import load_config
from attn_mm.utils.files import check_checkpoint, write_atomically, writing
from attn_mm.utils.flags import add_device_flag, add_options_flag, count, positive, score
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial, identity

_DESCRIPTION = """\
Detect the persons in a set of images, for the evaluation of top-down pose configs. Writes COCO results:
[{"image_id", "category_id": 1, "bbox": [x, y, width, height], "score"}].

  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth --out boxes.json
  %(prog)s mmdet::yolo/yolov3_d53_8xb8-ms-608-273e_coco.py yolov3.pth --out boxes.json \\
      --ann-file data/coco/annotations/person_keypoints_val2017.json --img-dir data/coco/val2017

An interrupted run continues when the same command is started again.
"""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("config", help="config file of an mmdet detector")
    parser.add_argument("checkpoint", help="the detector's checkpoint")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="file to write")
    parser.add_argument("--ann-file", metavar="FILE.json", help="COCO annotations that list the images")
    parser.add_argument(
        "--img-dir", metavar="DIR", help="folder of the images (default of both: the config's test set)"
    )
    parser.add_argument(
        "--score-thr",
        type=score,
        default=0.05,
        metavar="S",
        help="drop lower scores (default: 0.05)",
    )
    parser.add_argument("--batch-size", type=positive, default=1, metavar="N", help="batch size (default: 1)")
    parser.add_argument(
        "--num-workers", type=count, default=2, metavar="N", help="processes that read images (default: 2)"
    )
    add_device_flag(parser)
    add_options_flag(parser, "override values of the config, such as model.test_cfg.nms.iou_threshold=0.5")
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def image_set(cfg: Config, ann_file: str | None, img_dir: str | None) -> tuple[str, str]:
    """The annotation file and the image folder: those given, or else those of the config's test set."""
    if bool(ann_file) != bool(img_dir):
        raise UserError("--ann-file and --img-dir go together")
    if ann_file and img_dir:
        return ann_file, img_dir
    dataset = cfg.get("test_dataloader", {}).get("dataset", {})
    ann_file, folder = dataset.get("ann_file") or "", dataset.get("data_prefix", {}).get("img")
    if not ann_file.endswith(".json") or folder is None:
        raise UserError(f"the test set of {cfg.filename} is not COCO's: use --ann-file and --img-dir")
    root = dataset.get("data_root") or ""
    return osp.join(root, ann_file), osp.join(root, folder)


class Images(Dataset):
    """Preprocessed images for a detector: ``(image id, data)``, or ``(image id, error message)``.

    Args:
        cfg: the detector's config, for the test pipeline.
        images: entries of COCO annotations.
        folder: of the image files.
    """

    def __init__(self, cfg: Config, images: list[Image], folder: str) -> None:
        load, *rest = Pipeline(cfg, inference_steps(cfg)).compose.transforms
        self.pipeline = Compose([ReadFile(load, "img_path"), *rest])
        self.images, self.folder = images, folder

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int | str, dict | str]:
        image = self.images[index]
        path = osp.join(self.folder, image.file_name)
        try:
            return image.id, self.pipeline({"img_path": path, "img_id": image.id})
        except UnreadableFile as error:
            return image.id, str(error)


def detect_persons(model: BaseModel, label: int, batch: list[dict], score_thr: float) -> Iterator[list[dict]]:
    """The persons in each image of a batch, as COCO results without the image id."""
    with torch.no_grad():
        samples = model.test_step(pseudo_collate(batch))
    for sample in samples:
        check_instances(sample, model)
        found = sample.pred_instances.cpu()
        found = found[(found.labels == label) & (found.scores > score_thr)]
        yield [
            {
                "category_id": 1,
                "bbox": [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)],
                "score": round(score, 5),
            }
            for (x1, y1, x2, y2), score in zip(found.bboxes.tolist(), found.scores.tolist(), strict=True)
            # A pose estimator can't crop an empty box.
            if x2 - x1 >= 1 and y2 - y1 >= 1
        ]


def find_all(
    loader: DataLoader, partial: Partial, detect: Callable[[list[dict]], Iterable[list[dict]]], total: int
) -> int:
    """Detect persons in all images of ``loader``, save them in ``partial``, and report unreadable images.

    Returns:
        the number of unreadable images.
    """
    skipped = 0
    with progress_bar() as progress:
        task = progress.add_task("images", total=total, completed=len(partial.found))
        for batch in loader:
            readable = [(image_id, data) for image_id, data in batch if not isinstance(data, str)]
            for complaint in (data for _, data in batch if isinstance(data, str)):
                skipped += 1
                progress.console.print(f"skipped: {complaint}", markup=False, highlight=False, soft_wrap=True)
            if readable:
                ids, samples = zip(*readable, strict=True)
                for image_id, persons in zip(ids, detect(list(samples)), strict=True):
                    partial.add(image_id, persons)
            progress.advance(task, len(batch))
    return skipped


def check_out(out: Path) -> None:
    """Make the folder of the output file; UserError if the file can't be made."""
    if out.suffix != ".json":
        raise UserError(f"--out {out}: the file's name must end in .json")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()


def open_detector(config: str, options: dict | None) -> Config:
    """The config of a detector; UserError if it is for another framework."""
    cfg = load_config(config, options)
    if cfg.get("default_scope") != "mmdet":
        raise UserError(f"{config} is for {cfg.get('default_scope')}: an mmdet detector is needed")
    return cfg


def make_bbox_file(
    cfg: Config,
    checkpoint: str,
    out: Path,
    device: str,
    ann_file: str | None = None,
    img_dir: str | None = None,
    score_thr: float = 0.05,
    batch_size: int = 1,
    num_workers: int = 0,
) -> None:
    """Detect the persons in a set of images and write them as COCO results.

    Args:
        cfg, checkpoint: the detector's.
        out: the JSON file to write.
        device: where the detector runs.
        ann_file, img_dir: COCO annotations that list the images, and their folder; None: those of the
            config's test set.
        score_thr: persons with a lower score are left out.
        batch_size: number of images in a batch.
        num_workers: number of processes that read images.

    Raises:
        UserError: an argument can't be used, or no image can be read.
    """
    check_checkpoint(checkpoint)
    ann_file, folder = image_set(cfg, ann_file, img_dir)
    if not osp.isdir(folder):
        raise UserError(f"{folder} is not a folder: name the folder of the images with --img-dir")
    images = read_images(ann_file)
    check_out(out)
    model = load_model(cfg, checkpoint, device)
    label = person_label(model, cfg)
    about = {
        "config": cfg.pretty_text,
        "checkpoint": identity(checkpoint),
        "ann_file": identity(ann_file),
        "img_dir": osp.abspath(folder),
        "score_thr": score_thr,
    }
    unfinished = out.with_name(f"{out.name}.partial")
    with Partial(unfinished, about, flag="--out") as partial:
        rest = [image for image in images if image.id not in partial.found]
        loader = DataLoader(Images(cfg, rest, folder), batch_size, num_workers=num_workers, collate_fn=list)
        skipped = find_all(
            loader, partial, lambda batch: detect_persons(model, label, batch, score_thr), len(images)
        )
    if not partial.found:
        raise UserError(f"none of the {len(images)} images in {folder} can be read")
    boxes = [{"image_id": i.id, **person} for i in images for person in partial.found.get(i.id, [])]
    write_atomically(out, json.dumps(boxes))
    unfinished.unlink()
    print(
        f"{out}: {len(boxes)} persons in {len(partial.found)} images"
        + (f", {skipped} skipped" if skipped else "")
    )


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    with resumable(f"repeat the command to continue from {args.out}.partial"):
        make_bbox_file(
            open_detector(args.config, args.cfg_options),
            args.checkpoint,
            args.out,
            args.device,
            args.ann_file,
            args.img_dir,
            args.score_thr,
            args.batch_size,
            args.num_workers,
        )
