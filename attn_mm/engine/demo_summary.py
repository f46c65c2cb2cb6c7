"""What ``--demo`` shows at its end: figures, the checkpoint, pictures of detections and of masks."""

from __future__ import annotations

from pathlib import Path

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint
from rich.console import Console
from rich.table import Table

from attn_mm.engine.infer import AttentionSheets, make_output, run_images
from attn_mm.engine.predictors import detector

NUM_PICTURES = 6


def finish_demo(runner: Runner, metrics: dict[str, float], seconds: float) -> None:
    """Draw some held-out images with the trained model, and print what the demo gave."""
    dataset = runner.val_dataloader.dataset
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model.eval()
    model.dataset_meta = dataset.metainfo
    backbone = getattr(model, "backbone", None)
    sheets = AttentionSheets(backbone) if hasattr(backbone, "attention_masks") else None
    images = [Path(dataset.get_data_info(i)["img_path"]) for i in range(min(NUM_PICTURES, len(dataset)))]
    pictures = Path(runner.work_dir, "pictures")
    make_output(pictures, images[0], attention=sheets is not None)
    run_images(images, pictures, detector(model, runner.cfg, score_thr=0.3), sheets)

    table = Table(title=f"{Path(runner.cfg.filename).stem}, {len(dataset)} held-out images")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        if value >= 0:  # COCO's -1: no object of that size
            table.add_row(name, f"{value:.3f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    lines = dict(checkpoint=Path(find_latest_checkpoint(runner.work_dir)), pictures=pictures)
    if sheets:
        lines["masks"] = pictures / "attention"
    lines["figures"] = Path(runner.work_dir, "results.json")
    for name, path in lines.items():
        console.print(f"{name:>10}  {path}")
    console.print(f"{'time':>10}  {seconds / 60:.1f} min")
