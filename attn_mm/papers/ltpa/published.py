"""Jetley et al., Learn To Pay Attention, ICLR 2018, section 4 and appendix A.2
(https://arxiv.org/abs/1804.02391).

The paper prints no parameters: the figures are what the layers that it lists amount to.
"""

from __future__ import annotations

from attn_mm.papers.nets import classifier
from attn_mm.papers.published import Row

_CHANNELS = {1: 256, 2: 512, 3: 512}


def _linear(backbone: str, classes: int) -> dict:
    return dict(
        type="ImageClassifier",
        backbone=dict(type=f"attn_mm.{backbone}"),
        head=dict(type="LinearClsHead", num_classes=classes, in_channels=512),
    )


def _pooled(backbone: str, channels: int, classes: int) -> dict:
    return classifier(dict(type=f"attn_mm.{backbone}"), channels, classes)


def _attended(classes: int, backbone: dict, local: list[int], query: int, **head) -> dict:
    head = dict(
        type="attn_mm.LTPAHead", num_classes=classes, local_channels=local, global_channels=query, **head
    )
    return dict(type="ImageClassifier", backbone=backbone, head=head)


def _vgg(classes: int, levels: tuple[int, ...], combine: str, compatibility: str) -> dict:
    backbone = dict(type="attn_mm.VGGAtt", levels=levels)
    local = [_CHANNELS[level] for level in levels]
    return _attended(classes, backbone, local, 512, combine=combine, compatibility=compatibility)


def _rn164(classes: int, levels: tuple[int, ...]) -> dict:
    backbone = dict(type="attn_mm.PreActResNet", depth=164, levels=levels)
    return _attended(classes, backbone, [64 * 2 ** (level - 1) for level in levels], 256)


_NETS = (
    ("VGG", lambda n: _linear("VGG", n), "14,991,946", "15,038,116"),
    ("VGG-GAP", lambda n: _pooled("VGGGAP", 512, n), "14,728,266", "14,774,436"),
    (
        "VGG-PAN",
        lambda n: _attended(n, dict(type="attn_mm.VGGPAN"), [512], 512),
        "24,698,956",
        "24,745,126",
    ),
    ("RN-164", lambda n: _pooled("PreActResNet", 256, n), "1,703,258", "1,726,388"),
    ("VGG-att-dp", lambda n: _vgg(n, (3,), "concat", "dp"), "19,713,610", "19,759,780"),
    ("VGG-att2-indep-dp", lambda n: _vgg(n, (2, 3), "indep", "dp"), "19,719,764", "19,812,104"),
    ("VGG-att2-concat-dp", lambda n: _vgg(n, (2, 3), "concat", "dp"), "19,719,754", "19,812,004"),
    ("VGG-att-pc", lambda n: _vgg(n, (3,), "concat", "pc"), "19,714,123", "19,760,293"),
    ("VGG-att2-indep-pc", lambda n: _vgg(n, (2, 3), "indep", "pc"), "19,720,790", "19,813,130"),
    ("VGG-att2-concat-pc", lambda n: _vgg(n, (2, 3), "concat", "pc"), "19,720,780", "19,813,030"),
    ("VGG-att3-concat-pc", lambda n: _vgg(n, (1, 2, 3), "concat", "pc"), "19,856,461", "19,971,751"),
    ("RN-164-att", lambda n: _rn164(n, (3,)), "2,360,411", "2,383,541"),
    ("RN-164-att2", lambda n: _rn164(n, (2, 3)), "2,395,484", "2,430,134"),
)

ROWS = [
    Row("LTPA, section A.2", f"{name}, {classes} classes", build(classes), figure)
    for name, build, *figures in _NETS
    for classes, figure in zip((10, 100), figures)
]
