"""The papers' ablation studies by name, for ``attn-mm ablate --preset``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """An ablation study of a paper.

    Attributes:
        config: the config that is varied.
        vary: the options and their values, as ``--vary`` takes them.
        source: the paper's figure or section, and what it doesn't say.
        plain: whether the network without attention is one of the study's.
    """

    config: str
    vary: tuple[str, ...]
    source: str
    plain: bool = True


_AW = "configs/aw/r50-caffe_aw_200e_cifar100.py"
_AW_SOURCE = "AW, section C of the supplement, which is not public: the values are chosen here"

PRESETS = {
    "td-fig7-left": Preset(
        "configs/td/r50_td-joint_125e_in1k.py",
        ("TD.distance=0,1,2,3", "TD.mode=joint,top"),
        "TD, figure 7 left: feedback distance m and mode of ResNet-50",
    ),
    "td-fig7-right": Preset(
        "configs/td/r18_td-top_125e_in1k-200.py",
        ("TD.steps=2,3,4,5",),
        "TD, figure 7 right: feedback steps t of ResNet-18 on 200 classes of ImageNet; plain is t = 1",
    ),
    "td-fig7-right-mobilenetv3": Preset(
        "configs/td/mobilenetv3_td-joint_125e_in1k-200.py",
        ("TD.steps=2,3,4,5",),
        "TD, figure 7 right: feedback steps t of MobileNetV3 on 200 classes of ImageNet; plain is t = 1",
    ),
    "tdaf-flows": Preset(
        "configs/tdaf/r50_tdaf-anar3_120e_in1k.py",
        ("TDAF.flows=2,3,4",),
        "TDAF, table 3a: number of flows of ResNet-50",
    ),
    "tdaf-anar": Preset(
        "configs/tdaf/r50_tdaf-anar3_120e_in1k.py",
        ("TDAF.anar=3,5,7",),
        "TDAF, table 3a: layers of an ANAR of ResNet-50",
    ),
    "tam-fig2": Preset(
        "configs/tam/r50_tam_300e_cifar100.py",
        ("TAM.group_size=2,4,8,16,32,64",),
        "TAM, figure 2: group sizes of ResNet-50 on CIFAR-100",
    ),
    "aw-r": Preset(_AW, ("AWConv.reduction=4,8,16,32",), f"{_AW_SOURCE}. Reduction r"),
    "aw-c1": Preset(_AW, ("AWConv.reduce_c1=None,64,32,16",), f"{_AW_SOURCE}. r_C1; None is C1"),
    "aw-c2": Preset(_AW, ("AWConv.reduce_c2=1,2,4,8",), f"{_AW_SOURCE}. r_C2"),
    "aw-hw": Preset(_AW, ("AWConv.reduce_hw=1,3",), f"{_AW_SOURCE}. r_hw of 3x3 kernels"),
    "aw-function": Preset(
        _AW, ("AWConv.identity=True,False",), f"{_AW_SOURCE}. AK = K + A * K (True) or A * K (False)"
    ),
    "aw-stages": Preset(
        _AW, ("AWConv.stages=(0,),(1,),(2,),(3,),None",), f"{_AW_SOURCE}. Stages; None is all of them"
    ),
}
