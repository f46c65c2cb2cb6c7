"""Set how many clips and crops of a video the test pipeline of an mmaction config takes.

The usual protocols: centre crops (Hara et al., https://arxiv.org/abs/1711.09577), 10 clips with 3 crops
(non-local networks, https://arxiv.org/abs/1711.07971), 25 frames with 10 (TSN, https://arxiv.org/abs/1608.00859).
"""

from __future__ import annotations

from mmengine.config import Config, ConfigDict

from attn_mm.errors import UserError
from attn_mm.utils.config import walk

# mmaction's transforms, by the number of crops that they make of a frame.
CROPS = {1: "CenterCrop", 3: "ThreeCrop", 10: "TenCrop"}


def set_views(cfg: Config, clips: int | None, crops: int | None) -> None:
    """Set the number of clips of a video, and of crops of each frame, in a config's test pipeline.

    Clips are spread evenly over the video. Crops keep the config's size. Three crops lie side by side along
    the longer side of the frame, whose shorter side is scaled to the crop.

    Args:
        cfg: the config, changed in place.
        clips: number of clips, or None to keep the config's.
        crops: 1, 3 or 10, or None to keep the config's.

    Raises:
        UserError: the pipeline has no step that can be changed in this way.
    """
    pipeline = cfg.test_dataloader.dataset.pipeline
    if clips is not None:
        _set_clips(cfg, pipeline, clips)
    if crops is not None:
        _set_crops(cfg, pipeline, crops)


def _kind(step: ConfigDict) -> str:
    return str(step.get("type")).rpartition(".")[2]


def _only(cfg: Config, pipeline: list[ConfigDict], kinds: list[str], flag: str) -> ConfigDict:
    found = [step for step in pipeline if _kind(step) in kinds]
    if len(found) != 1:
        raise UserError(
            f"{flag} needs one {' or '.join(kinds)} in the test pipeline; {cfg.filename} has {len(found)}"
        )
    return found[0]


def _set_clips(cfg: Config, pipeline: list[ConfigDict], clips: int) -> None:
    sampler = _only(cfg, pipeline, ["SampleFrames", "UntrimmedSampleFrames", "SampleWholeVideo"], "--clips")
    if any(node.get("num_segments") for node in walk(cfg.model)):
        raise UserError(
            f"--clips: the network of {cfg.filename} mixes the frames of all clips and fixes their number, "
            "num_segments; leave the flag out"
        )
    sampler.type = "SampleFrames"
    sampler.pop("clip_interval", None)
    sampler.update(num_clips=clips, twice_sample=False, test_mode=True)


def _set_crops(cfg: Config, pipeline: list[ConfigDict], crops: int) -> None:
    crop = _only(cfg, pipeline, list(CROPS.values()), "--crops")
    if _kind(crop) == CROPS[crops]:
        return
    # Keeps a scope in front of the name.
    crop.type = crop.type.replace(_kind(crop), CROPS[crops])
    if crops == 3:
        before = pipeline[: pipeline.index(crop)]
        resizes = [step for step in before if _kind(step) == "Resize" and step.get("keep_ratio", True)]
        if not resizes or not isinstance(crop.crop_size, int):
            raise UserError(
                f"--crops 3 needs a Resize that keeps the ratio before a square crop; {cfg.filename} has none"
            )
        resizes[-1].scale = (-1, crop.crop_size)
