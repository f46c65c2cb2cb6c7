"""``--demo`` of a top-down pose config: generated persons, small enough for its schedule."""

from __future__ import annotations

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.generated.jointed_figure import KEYPOINTS
from attn_mm.datasets.generated.persons import make_persons
from attn_mm.errors import UserError
from attn_mm.frameworks.demo_schedule import dataloader, set_schedule
from attn_mm.utils.config import drop_pretrained, model_part

# Width and height of the model's input.
INPUT_SIZE = (96, 128)
# Side of the crop as a multiple of the box's; below mmpose's 1.25, so that the person fills more pixels.
PADDING = 1.1
# A step on 16 images takes only half as long again as one on 8. A ResNet-50 takes less than four minutes.
IMAGES, BATCH_SIZE, EPOCHS, LR = 1600, 16, 1, 1e-3
# After one epoch, SimCC's heads have learnt nothing.
SIMCC_IMAGES, SIMCC_BATCH_SIZE, SIMCC_EPOCHS, SIMCC_LR = 2000, 8, 2, 3e-3
CODECS = ("MSRAHeatmap", "UDPHeatmap", "SimCCLabel")

# Its codec's default.
SIMCC_SIGMA = 6.0


def to_demo(cfg: Config) -> None:
    """Turn an mmpose config into its demo, in place.

    Raises:
        UserError: the model is not top-down, or predicts neither heatmaps nor SimCC's vectors of COCO's
            keypoints.
    """
    codec = _codec(cfg)
    drop_pretrained(cfg)
    _shrink(cfg.model.head)
    load: list[dict] = [dict(type="LoadImage"), dict(type="GetBBoxCenterScale", padding=PADDING)]
    crop = dict(type="TopdownAffine", input_size=INPUT_SIZE, use_udp=codec.type == "UDPHeatmap")
    flip = dict(type="RandomFlip", direction="horizontal")
    train = [*load, flip, crop, dict(type="GenerateTarget", encoder=codec), dict(type="PackPoseInputs")]
    test = [*load, crop, dict(type="PackPoseInputs")]
    if codec.type == "SimCCLabel":
        images, batch_size, epochs, lr = SIMCC_IMAGES, SIMCC_BATCH_SIZE, SIMCC_EPOCHS, SIMCC_LR
    else:
        images, batch_size, epochs, lr = IMAGES, BATCH_SIZE, EPOCHS, LR
    root = str(make_persons(num_train=images))
    cfg.train_dataloader = dataloader(batch_size, _dataset(root, "train2017", train), shuffle=True)
    cfg.val_dataloader = cfg.test_dataloader = dataloader(
        BATCH_SIZE, _dataset(root, "val2017", test), shuffle=False
    )
    cfg.val_evaluator = cfg.test_evaluator = ConfigDict(
        type="CocoMetric", ann_file=f"{root}/annotations/person_keypoints_val2017.json"
    )
    set_schedule(cfg, epochs, lr)


def _codec(cfg: Config) -> ConfigDict:
    """The codec of the model's head."""
    head = model_part(cfg, "head")
    codec = head.get("decoder")
    kind = cfg.model.get("of", cfg.model.type)  # of a deployed model
    if kind != "TopdownPoseEstimator" or not isinstance(codec, ConfigDict) or codec.type not in CODECS:
        raise UserError(
            f"--demo works on top-down pose configs whose codec is one of {', '.join(CODECS)}; "
            f"that of {cfg.filename} is {codec.type if isinstance(codec, ConfigDict) else codec}"
        )
    if head.get("out_channels") != len(KEYPOINTS):
        raise UserError(
            f"--demo: the generated persons have COCO's {len(KEYPOINTS)} keypoints; "
            f"{cfg.filename} predicts {head.get('out_channels')}"
        )
    return codec


def _shrink(head: ConfigDict) -> None:
    """Shrink the input, its maps, and the Gaussians of the targets by the same factor, in place."""
    codec = head.decoder
    ratios = [small / full for small, full in zip(INPUT_SIZE, codec.input_size, strict=True)]
    for node, key in ((codec, "heatmap_size"), (head, "in_featuremap_size")):
        if key in node:
            node[key] = tuple(round(side * ratio) for side, ratio in zip(node[key], ratios, strict=True))
    if isinstance(codec.get("sigma"), (list, tuple)):
        codec.sigma = tuple(sigma * ratio for sigma, ratio in zip(codec.sigma, ratios, strict=True))
    else:
        codec.sigma = codec.get("sigma", SIMCC_SIGMA) * ratios[0]
    for node in (codec, head):
        if "input_size" in node:
            node.input_size = INPUT_SIZE


def _dataset(root: str, split: str, pipeline: list[dict]) -> dict:
    return dict(
        type="CocoDataset",
        data_root=root,
        data_mode="topdown",
        ann_file=f"annotations/person_keypoints_{split}.json",
        data_prefix=dict(img=f"{split}/"),
        test_mode=split != "train2017",
        pipeline=pipeline,
    )
