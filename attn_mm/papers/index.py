"""``docs/classification.md``: every classification config with its paper's figure and its parameters.

``python -m attn_mm.papers.index`` writes the page anew.
"""

from __future__ import annotations

from pathlib import Path

from attn_mm.describe.build import build
from attn_mm.describe.counting import count_parameters
from attn_mm.papers.accuracies import TABLES, Table
from attn_mm.utils.config import load_config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "classification.md"
CONFIGS = ROOT / "configs"

_HEAD = """\
# Classification

Written by `python -m attn_mm.papers.index`. The rows of the papers' tables are
configs: `tam/r50_se_300e_cifar100` is TAM's ResNet-50 with SE on CIFAR-100.
[configs/README.md](../configs/README.md) explains the names.

```
python tools/train.py configs/tam/r50_tam_300e_cifar10.py --demo         # no data, no download
python tools/train.py configs/tam/r50_tam_300e_cifar10.py                # data/cifar10
python tools/train.py configs/tam/r50_tam_300e_cifar10.py --data-root /datasets/cifar10-images
tools/dist_train.sh configs/td/r50_td-joint_90e_in1k.py 8                  # on 8 GPUs
python tools/test.py  configs/tdaf/r50_tdaf-anar3_100e_in1k.py CHECKPOINT --tta       # 10 crops
python tools/infer.py configs/tdaf/r50_tdaf-anar3_100e_in1k.py CHECKPOINT photos/ --show-attention
```

On another number of GPUs add `--auto-scale-lr`. [data.md](data.md#cifar-10-and-cifar-100) says where the sets
lie.

ImageNet V2, whose top images TD's table 1 has, is another test set of the same config:

```
python tools/test.py configs/td/r50_td-joint_90e_in1k.py CHECKPOINT \\
    --cfg-options test_dataloader.dataset.type=attn_mm.ImageNetV2 test_dataloader.dataset.split=top-images
```

**The figures are the papers', in percent; nobody has reproduced them here.** Parameters are counted, of the
config as it is.
"""


def parameters(config: Path) -> int:
    """The parameters of a config's model."""
    return count_parameters(build(load_config(str(config)), "meta")).params


def page(counts: dict[str, int]) -> str:
    """The page, from the parameters by config name."""
    return "\n".join([_HEAD, *(_section(table, counts) for table in TABLES)])


def _section(table: Table, counts: dict[str, int]) -> str:
    lines = [f"## {table.where}: {table.data}", ""]
    if table.note:
        lines += [table.note, ""]
    lines += [f"| config | {table.measure} | parameters |", "| --- | ---: | ---: |"]
    lines += [
        f"| [`{name}`](../configs/{name}.py) | {figure} | {counts[name]:,} |"
        for name, figure in table.figures.items()
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    names = [name for table in TABLES for name in table.figures]
    PAGE.write_text(page({name: parameters(CONFIGS / f"{name}.py") for name in names}))


if __name__ == "__main__":
    main()
