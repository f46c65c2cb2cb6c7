"""The classification figures that the papers publish, each with the config that is their row.

A config's name is the recipe's paper, the network with its attention, and the data set.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """What a table publishes of networks on one data set.

    Attributes:
        where: the paper, and the table in it.
        data: the set's name.
        measure: what the figures are, in percent.
        figures: by config, as printed; ``''`` where the text at hand has none.
        note: how the configs differ from the paper, or what the figures are of.
    """

    where: str
    data: str
    measure: str
    figures: dict[str, str]
    note: str = ""


def _named(paper: str, data: str, figures: dict[str, str]) -> dict[str, str]:
    return {f"{paper}/{network}_{data}": figure for network, figure in figures.items()}


def _columns(paper: str, rows: dict[str, tuple[str, ...]], *data: str) -> list[dict[str, str]]:
    """One dict for each data set, from rows with a figure for each."""
    return [
        _named(paper, name, {network: figures[place] for network, figures in rows.items()})
        for place, name in enumerate(data)
    ]


_ERROR, _TOP_5_ERROR = "top-1 error", "top-1 / top-5 error"
_ACCURACY, _TOP_5_ACCURACY = "top-1 accuracy", "top-1 / top-5 accuracy"

_TAM_CIFAR10, _TAM_CIFAR100 = _columns(
    "tam",
    {
        "r18_plain": ("5.32", "24.97 / 7.34"),
        "r18_se": ("5.31", "24.46 / 7.16"),
        "r18_cbam": ("5.28", "24.87 / 7.58"),
        "r18_tam": ("4.94", "24.35 / 6.84"),
        "r50_plain": ("5.07", "24.84 / 7.11"),
        "r50_se": ("5.172", "23.68 / 6.37"),
        "r50_cbam": ("4.80", "23.67 / 6.24"),
        "r50_tam": ("4.60", "22.42 / 5.94"),
        "r101_plain": ("4.76", "23.17 / 5.94"),
        "r101_se": ("4.93", "21.87 / 5.53"),
        "r101_cbam": ("4.86", "23.20 / 6.11"),
        "r101_tam": ("4.54", "21.90 / 5.75"),
        "rx50_plain": ("5.39", "23.21 / 6.29"),
        "rx50_se": ("4.40", "22.62 / 5.70"),
        "rx50_cbam": ("4.45", "22.08 / 5.76"),
        "rx50_tam": ("4.37", "21.97 / 5.64"),
        "wrn16-8_plain": ("4.94", "22.81 / 6.18"),
        "wrn16-8_se": ("4.92", "22.70 / 6.05"),
        "wrn16-8_cbam": ("4.97", "23.07 / 6.15"),
        "wrn16-8_tam": ("4.92", "22.62 / 6.11"),
    },
    "300e_cifar10",
    "300e_cifar100",
)
_LTPA_CIFAR10, _LTPA_CIFAR100 = _columns(
    "ltpa",
    {
        "vgg_plain_300e": ("7.77", "30.62"),
        "vgg-gap_plain_300e": ("9.87", "31.77"),
        "vgg_pan_300e": ("6.29", "24.35"),
        "rn164_plain_200e": ("6.03", "25.34"),
        "rn164_ltpa-att_200e": ("", ""),
        "rn164_ltpa-att2_200e": ("", ""),
        "vgg_ltpa-att-dp_300e": ("6.14", "24.22"),
        "vgg_ltpa-att2-indep-dp_300e": ("5.91", "23.24"),
        "vgg_ltpa-att2-concat-dp_300e": ("5.86", "23.91"),
        "vgg_ltpa-att-pc_300e": ("5.67", "23.70"),
        "vgg_ltpa-att2-indep-pc_300e": ("5.36", "24.00"),
        "vgg_ltpa-att2-concat-pc_300e": ("5.23", "23.19"),
        "vgg_ltpa-att3-concat-pc_300e": ("6.34", "22.97"),
    },
    "cifar10",
    "cifar100",
)
_RN164 = (
    "The text says of a ResNet with attention, not of which, that it is 0.9 worse on CIFAR-10 and 1.5 on "
    "CIFAR-100 than the plain one. The paper's local contrast normalisation is left out: channels have "
    "their mean taken off and are divided by their standard deviation."
)

TABLES = [
    Table(
        "TDAF, table 2",
        "CIFAR-10",
        _ACCURACY,
        _named(
            "tdaf",
            "164e_cifar10",
            {
                "vgg16_plain": "92.64",
                "vgg16_tdaf-anar2": "93.02",
                "vgg16_tdaf-anar3": "93.43",
                "vgg19_plain": "93.13",
                "vgg19_tdaf-anar3": "93.78",
                "r50_plain": "93.62",
                "r50_tdaf-anar3": "94.13",
                "r101_plain": "93.75",
                "r101_tdaf-anar3": "94.21",
            },
        ),
        "The paper's parameters are those of the networks for ImageNet, and it does not say what it changes "
        "for 32x32 pixels: here the ResNets have a 3x3 stem, and the VGGs' linear layers start from the one "
        "place that is left.",
    ),
    Table(
        "TDAF, table 3a",
        "ImageNet, 10 crops",
        _TOP_5_ACCURACY,
        _named(
            "tdaf",
            "100e_in1k",
            {
                "vgg16_plain": "74.7 / 92.0",
                "vgg16_tdaf-anar5": "75.9 / 92.7",
                "vgg16_tdaf-anar5-2flows": "75.5 / 92.4",
                "r50_plain": "77.1 / 93.3",
                "r50_tdaf-anar3": "78.4 / 94.1",
                "r50_tdaf-anar5": "78.6 / 94.3",
                "r50_tdaf-anar7": "78.8 / 94.5",
                "r50_tdaf-anar3-4flows": "78.7 / 94.4",
                "r101_plain": "78.2 / 93.9",
                "r101_tdaf-anar3": "79.9 / 94.8",
                "r101_tdaf-anar3-4flows": "80.2 / 95.0",
                "r152_plain": "78.6 / 94.3",
                "r152_tdaf-anar3": "80.4 / 95.1",
                "rx50_plain": "79.4 / 94.7",
                "rx50_tdaf-anar3": "80.3 / 95.0",
                "rx101_plain": "81.0 / 95.5",
                "rx101_tdaf-anar3": "81.8 / 95.8",
                "mobilenet_plain": "68.6 / 88.49",
                "mobilenet_tdaf-anar3-2flows": "71.0 / 90.01",
            },
        ),
        "The 10-crop test is `tools/test.py ... --tta`. Where no other number is said there are 3 flows.",
    ),
    Table(
        "TDAF, table 3b",
        "ImageNet",
        "gain in top-1 accuracy, 1 crop",
        _named(
            "tdaf",
            "100e_in1k",
            {"r50_se": "", "r50_se-tdaf-anar3": "+1.3", "r50_cbam": "", "r50_cbam-tdaf-anar3": "+0.7"},
        ),
        "The paper does not say the depth of its SE and CBAM networks; here it is 50.",
    ),
    Table(
        "TDAF, section 4.5",
        "ImageNet",
        _ACCURACY,
        _named("tdaf", "100e_in1k", {"r50_multiscale": "77.5"}),
        "The ablation of the attention: three flows that know nothing of each other, their last features "
        "side by side before the classifier. By the text it is 0.4 above the plain network and 1.1 below "
        "ANAR-3; the figures of table 3a say 0.4 and 0.9.",
    ),
    Table(
        "TD, table 1",
        "ImageNet V1",
        _TOP_5_ACCURACY,
        _named(
            "td",
            "90e_in1k",
            {
                "r50_plain": "76.02 / 92.95",
                "r50_se": "76.77 / 93.49",
                "r50_cbam": "77.12 / 93.53",
                "r50_eca": "76.86 / 93.34",
                "r50_fca": "77.23 / 93.43",
                "r50_td-joint": "77.41 / 93.62",
                "r50_td-top": "77.36 / 93.59",
                "r50_td-top-m3": "77.40 / 93.63",
                "r101_plain": "77.38 / 93.63",
                "r101_se": "77.86 / 93.69",
                "r101_cbam": "78.22 / 94.08",
                "r101_fca": "78.20 / 94.01",
                "r101_td-joint": "78.64 / 94.21",
                "r101_td-joint-layer4": "78.22 / 93.99",
                "r18_plain": "",
                "r18_td-top": "",
                "r18_td-top-m2": "",
                "r34_plain": "",
                "r34_td-joint": "",
                "r34_td-joint-m2": "",
                "mobilenetv3_plain": "",
                "mobilenetv3_td-top": "",
            },
        ),
        "The paper's settings, its R18 and R34 are in its supplement; those here are torchvision's, on which "
        "its code builds. MobileNetV3 it trains on 200 of the classes.",
    ),
    Table(
        "AW, table 1",
        "ImageNet",
        _TOP_5_ERROR,
        _named(
            "aw",
            "90e_in1k",
            {
                "r50-caffe_plain": "24.56 / 7.50",
                "r50-caffe_aw": "23.38 / 6.79",
                "r50-caffe_se": "23.14 / 6.70",
                "r50-caffe_aw-se": "22.72 / 6.47",
                "r50-caffe_aw-cbam-maxpool": "22.82 / 6.41",
                "r50-caffe_aw-cbam-spatial": "23.20 / 6.58",
                "r101-caffe_plain": "23.38 / 6.88",
                "r101-caffe_aw": "22.38 / 6.21",
                "r101-caffe_se": "22.35 / 6.19",
                "r101-caffe_aw-se": "21.78 / 5.74",
                "r101-caffe_aw-cbam-maxpool": "21.64 / 5.76",
                "r101-caffe_aw-cbam-spatial": "22.32 / 6.18",
                "mobilenet_plain": "31.39 / 11.51",
                "mobilenet_se": "29.97 / 10.63",
                "mobilenet_aw-se": "29.41 / 10.59",
                "mobilenet_cbam": "29.01 / 9.99",
                "mobilenet_aw-cbam-spatial": "28.82 / 9.98",
            },
        ),
        "The paper's settings are in its supplement; those here are those of CBAM's authors, whose figures "
        "it repeats for its baselines.",
    ),
    Table(
        "AW, table 2",
        "CIFAR-100",
        _TOP_5_ERROR,
        _named(
            "aw",
            "200e_cifar100",
            {
                "aa-wrn10-10_plain": "28.01 / 7.92",
                "aa-wrn10-10_aw0": "26.14 / 7.43",
                "aa-wrn10-10_aw1": "27.17 / 7.49",
                "aa-wrn10-10_aw2": "27.09 / 8.00",
                "aa-wrn10-10_aw3": "28.11 / 8.24",
                "r50-caffe_plain": "22.33 / 5.83",
                "r50-caffe_aw": "19.87 / 4.76",
                "r50-caffe_se": "20.43 / 5.01",
                "r50-caffe_aw-se": "19.00 / 4.51",
                "r50-caffe_cbam": "19.46 / 4.56",
                "r50-caffe_aw-cbam": "18.94 / 4.76",
            },
        ),
        "The paper's settings are in its supplement; those here are the wide ResNets'.",
    ),
    Table("LTPA, table 1", "CIFAR-10", _ERROR, _LTPA_CIFAR10, _RN164),
    Table("LTPA, table 1", "CIFAR-100", _ERROR, _LTPA_CIFAR100),
    Table(
        "LTPA, table 2",
        "SVHN",
        _ERROR,
        _named(
            "ltpa",
            "300e_svhn",
            {
                "vgg_plain": "4.27",
                "vgg-gap_plain": "5.84",
                "vgg_pan": "8.02",
                "vgg_ltpa-att2-concat-pc": "3.74",
                "vgg_ltpa-att3-concat-pc": "3.52",
            },
        ),
    ),
    Table(
        "LTPA, table 2",
        "CUB-200-2011, 80x80",
        _ERROR,
        _named(
            "ltpa",
            "290e_cub",
            {
                "vgg_plain": "34.64",
                "vgg_pan": "31.46",
                "vgg_ltpa-att2-concat-pc": "26.80",
                "vgg_ltpa-att3-concat-pc": "26.95",
            },
        ),
        "VGG-GAP and RN-34 the paper takes from others. The configs start from the last checkpoint of the "
        "CIFAR-100 one in `work_dirs`; `--cfg-options load_from=FILE` names another. Its last linear layer "
        "does not fit and starts anew.",
    ),
    Table(
        "TAM, table 1",
        "CIFAR-10",
        _ERROR,
        _TAM_CIFAR10,
        "The published parameters of TAM are those of 3x3 kernels; the text and the authors' code have 1x1, "
        "the default here ([papers.md](papers.md)).",
    ),
    Table("TAM, table 1", "CIFAR-100", _TOP_5_ERROR, _TAM_CIFAR100),
    Table(
        "TAM, table 2",
        "SVHN",
        _ERROR,
        _named(
            "tam",
            "160e_svhn",
            {
                "r18_plain": "5.94",
                "r18_se": "4.51",
                "r18_tam": "4.29",
                "r34_plain": "4.18",
                "r34_se": "4.52",
                "r34_tam": "4.11",
                "r50_plain": "4.46",
                "r50_se": "4.71",
                "r50_tam": "3.94",
                "wrn16-8_plain": "4.28",
                "wrn16-8_se": "3.63",
                "wrn16-8_tam": "3.71",
            },
        ),
    ),
]
