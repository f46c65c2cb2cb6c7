"""Parameters of the modules, added up by hand from the papers' text, apart from the code that is tested."""

from __future__ import annotations

from collections.abc import Sequence

from published import parameters_of, row_of

BLOCKS_OF_RESNET50 = ((256, 3), (512, 4), (1024, 6), (2048, 3))
"""Width and number, stage by stage."""
ANARS_OF_RESNET50 = {
    depth: int(row_of(f"tdaf/r50_tdaf-anar{depth}_120e_in1k", "TDAF, counted").params.replace(",", ""))
    for depth in (3, 5)
}


def aw(c1, c2):
    """Two bias-free 1x1 layers c1 -> c2 / 16 -> c2, each with a norm's scale and shift."""
    hidden = max(1, c2 // 16)
    return c1 * hidden + 2 * hidden + hidden * c2 + 2 * c2


def se(c, bias):
    """Two 1x1 layers c -> c / 16 -> c."""
    return 2 * c * (c // 16) + bias * (c // 16 + c)


def cbam(c, bias):
    """SE's two layers, and a 7x7 convolution of two maps with a norm."""
    return se(c, bias) + 2 * 7 * 7 + 2


def eca(c):
    """A kernel of the odd width next to (log2(c) + 1) / 2."""
    return {256: 5, 512: 5, 1024: 5, 2048: 7}[c]


def tam(c):
    """For each level n = c, c / 2 ... 2: n / 2 kernels of two weights and a bias; slopes but at the last."""
    levels = [c >> k for k in range(c.bit_length() - 1)]
    return sum(n // 2 * 3 + n // 2 for n in levels) - 1


def grafts_of_resnet50(stages: Sequence[int]) -> dict[str, int]:
    """What each graft adds to a ResNet-50 in these of its stages; TD in the last two."""
    blocks = [BLOCKS_OF_RESNET50[stage] for stage in stages]
    each = {
        "tam": tam,
        "se": lambda c: se(c, bias=False),
        "cbam": lambda c: cbam(c, bias=False),
        "eca": eca,
        "fca": lambda c: se(c, bias=False),
        "aw": lambda c: aw(c // 4, c // 4),
    }
    added = {name: sum(n * layer(c) for c, n in blocks) for name, layer in each.items()}
    grafted, plain = (parameters_of(f"td/r50_{attention}_125e_in1k") for attention in ("td-joint", "plain"))
    return added | {"td-joint": grafted - plain}
