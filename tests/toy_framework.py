"""A fifth framework, of a few lines: it tells bright images from dark ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn

from attn_mm.frameworks.demo_schedule import set_schedule
from attn_mm.frameworks.framework import ImageFramework, ShowHook
from attn_mm.frameworks.prediction import Prediction, View
from attn_mm.layers import CBAM

CLASSES = ("dark", "bright")


def to_input(image) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


class Toy(ImageFramework):
    """Its models see the image as it is; its predictor draws a frame around it."""

    name = "toy"
    task = "toy"
    noun = "mood"
    flags = ("--ink",)
    show_hook = ShowHook("ToyHook", switch="on", folder="where")

    def add_flags(self, parser):
        parser.add_argument("--ink", type=int, metavar="N", help="grey of the frame that a toy config draws")

    def options(self, flags, source, device):
        return {"ink": flags.get("--ink", 255)}

    def dataset_meta(self, cfg, saved):
        return {"classes": CLASSES}

    def predictor(self, model, cfg, score_thr, ink=255):
        def predict(image, name=""):
            inputs = to_input(image)[None]
            with torch.no_grad():
                scores = model(inputs, None, mode="tensor").softmax(1)[0].tolist()
            best = scores.index(max(scores))
            objects = [{"class": CLASSES[best], "label": best, "score": scores[best]}]
            framed = cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(ink, ink, ink))
            kept = [item for item in objects if item["score"] >= score_thr]
            return Prediction(kept, framed, [View(image, inputs)])

        return predict

    def cam_target(self, model, prediction, view):
        best = prediction.objects[0]
        return best["class"], lambda: model(view.inputs, None, mode="tensor")[0, best["label"]]

    def forward_arguments(self, model, inputs):
        return inputs, dict(labels=None, mode="tensor")

    def demo(self, cfg):
        cfg.val_evaluator = cfg.test_evaluator = dict(type="ToyMetric")
        set_schedule(cfg, epochs=2, lr=1e-2)


@MODELS.register_module()
class ToyNet(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(CBAM(3, reduction=1), nn.Conv2d(3, 4, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, inputs, labels, mode):
        scores = self.head(self.backbone(torch.stack(list(inputs))).mean((2, 3)))
        if mode == "loss":
            return {"loss": nn.functional.cross_entropy(scores, torch.stack(labels))}
        return scores if mode == "tensor" else list(scores.argmax(1))


@DATASETS.register_module()
class ToySet(BaseDataset):
    def __init__(self, folder, **options):
        self.folder = Path(folder)
        super().__init__(metainfo=dict(classes=CLASSES), **options)

    def load_data_list(self):
        return [dict(img_path=str(path)) for path in sorted(self.folder.glob("*.png"))]

    def prepare_data(self, index):
        image = cv2.imread(self.get_data_info(index)["img_path"])
        return dict(inputs=to_input(image), labels=torch.tensor(int(image.mean() > 127)))


@METRICS.register_module()
class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [float(a == b) for a, b in zip(data_samples, data_batch["labels"])]

    def compute_metrics(self, results):
        return {"right": sum(results) / len(results)}
