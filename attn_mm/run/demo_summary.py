"""The summary at the end of ``--demo``: metrics, and pictures of predictions and masks."""

from __future__ import annotations

from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner

from attn_mm.datasets.media import VideoFrames, write_image
from attn_mm.frameworks import framework_of
from attn_mm.frameworks.framework import VideoFramework
from attn_mm.inference.attention_sheets import AttentionSheets
from attn_mm.inference.inputs import make_output
from attn_mm.inference.predictions import Predictions
from attn_mm.inference.run_images import run_images
from attn_mm.inference.run_videos import run_videos
from attn_mm.layers.recording import attending_layers
from attn_mm.maps.frame_sheet import frame_sheet
from attn_mm.run.resume import last_checkpoint
from attn_mm.run.screen.summary import show_lines, show_metrics

NUM_PICTURES, NUM_VIDEOS = 6, 8


def more_figures(runner: Runner) -> dict[str, float]:
    """Metrics that a demo adds to the config's own."""
    return framework_of(runner.cfg).demo_metrics(_trained(runner), runner.cfg)


def _trained(runner: Runner) -> BaseModel:
    """The network of the last checkpoint, whose weights are averages if a hook makes these."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            return hook.ema_model.module.eval()
    return (runner.model.module if is_model_wrapper(runner.model) else runner.model).eval()


def finish_demo(runner: Runner, metrics: dict[str, float]) -> None:
    """Draw the trained model's predictions on some held-out images or videos, and print the metrics."""
    of_videos = isinstance(framework_of(runner.cfg), VideoFramework)
    number, kind = (NUM_VIDEOS, "videos") if of_videos else (NUM_PICTURES, "images")
    pictures = draw_predictions(runner, number)
    held_out = len(_paths(runner))
    show_metrics(f"{Path(runner.cfg.filename).stem}, {held_out} held-out {kind}", metrics)
    lines = dict(pictures=pictures)
    if (pictures / "attention").exists():
        lines["masks"] = pictures / "attention"
    show_lines(lines)


def draw_predictions(runner: Runner, number: int) -> Path:
    """Draw the trained model's predictions on the first ``number`` evaluation images or videos.

    Returns:
        The output folder, laid out as by ``attn-mm infer``.
    """
    framework = framework_of(runner.cfg)
    dataset = runner.val_dataloader.dataset
    model = _trained(runner)
    model.dataset_meta = dataset.metainfo
    of_videos = isinstance(framework, VideoFramework)
    sheets = None
    if attending_layers(model):
        sheets = AttentionSheets(model, framework.plain_forward(model), keep_scale=of_videos)
    paths = _paths(runner)[:number]
    out = Path(runner.work_dir, "pictures")
    make_output(out, paths[0], attention=sheets is not None)
    about = dict(config=runner.cfg.filename, checkpoint=last_checkpoint(runner.work_dir))
    if isinstance(framework, VideoFramework):
        recogniser = framework.predictor(model, runner.cfg)
        found = Predictions(out, framework.legend({"classes": recogniser.classes}), **about)
        run_videos(paths, found, recogniser, sheets)
        _write_frames(paths, found, dataset)
    else:
        score_thr = framework.score_threshold(model)
        predictor = framework.predictor(model, runner.cfg, score_thr, **framework.demo_options(dataset))
        found = Predictions(out, framework.legend(model.dataset_meta), **about, score_thr=score_thr)
        run_images(paths, found, predictor, sheets)
    return out


def _paths(runner: Runner) -> list[Path]:
    """The images or videos that the model was evaluated on."""
    dataset = runner.val_dataloader.dataset
    key = "filename" if isinstance(framework_of(runner.cfg), VideoFramework) else "img_path"
    # A pose estimator's data set has an entry for each person.
    return list(dict.fromkeys(Path(dataset.get_data_info(i)[key]) for i in range(len(dataset))))


def _write_frames(paths: list[Path], found: Predictions, dataset: BaseDataset) -> None:
    """Draw each of the data set's first videos as one picture of its frames, with the true class."""
    for index, (path, record) in enumerate(zip(paths, found.records, strict=True)):
        best = record["actions"][0]
        truth = dataset.metainfo["classes"][dataset.get_data_info(index)["label"]]
        lines = [f"true: {truth}", f"predicted: {best['class']} ({best['score']:.2f})"]
        sheet = frame_sheet(list(VideoFrames(path)), lines)
        write_image(found.out / f"{path.stem}.jpg", sheet.pixels())
