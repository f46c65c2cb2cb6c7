"""Options are found by type and name in the config or in their type's signature, and set where they are."""

from __future__ import annotations

import pytest
from mmengine.config import Config, ConfigDict

from attn_mm.errors import UserError
from attn_mm.run.vary import Options, as_text, split_vary, with_values
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("k=2,4,8", (2, 4, 8)),
        ("k=joint,top", ("joint", "top")),
        ("k=None,true,0.5,1e-3", (None, True, 0.5, 1e-3)),
        ("k=(0,),(1, 2),None", ((0,), (1, 2), None)),
        ("k=[(a)],1", None),
        ("k='a,b',c", ("a,b", "c")),
        ("k='1','None',' a'", ("1", "None", " a")),
        ("k=[1,2]", ([1, 2],)),
        ("k=1,1.0,True,1", (1, 1.0, True)),
        ("k=a=b", None),
        ("k=dict(type='x')", None),
        ("k=...", None),
        ("k=1j", None),
        ("k={1}", None),
        ("k=1,,2", None),
        ("k=", None),
        ("=1", None),
        ("k", None),
    ],
)
def test_values_are_literals_and_words(text, values):
    if values is None:
        with pytest.raises(ValueError, match=r"expected KEY|is no value"):
            split_vary(text)
    else:
        key, found = split_vary(text)
        assert key == "k" and list(map(repr, found)) == list(map(repr, values))
        written = [split_vary(f"k={as_text(value)}")[1] for value in values]
        assert [repr(value) for (value,) in written] == list(map(repr, values))


@pytest.fixture(scope="module")
def cfg() -> Config:
    cfg = load_config("configs/tam/r18_tam_300e_cifar10.py")
    (tam,) = cfg.model.backbone.grafts
    cfg.model.backbone.grafts = [
        ConfigDict(type="attn_mm.TD", stages=(2,)),
        ConfigDict(type="attn_mm.AWConv", convs=("3x3",)),
        tam,
        ConfigDict(type="attn_mm.TD", stages=(3,), steps=3),
    ]
    return cfg


def found_paths(cfg, key) -> list[str]:
    return [".".join(path) for path in Options(cfg).find(key).paths]


def test_options_are_found_by_type_name_or_path(cfg):
    grafts = "model.backbone.grafts"
    assert found_paths(cfg, "TD.distance") == [f"{grafts}.0.distance", f"{grafts}.3.distance"]
    # By the name alone, of a layer, of a graft's place, of a framework's network, of an optimiser.
    assert found_paths(cfg, "group_size") == [f"{grafts}.2.group_size"]
    assert Options(cfg).find("group_size").name == "TAM.group_size"
    assert found_paths(cfg, "TAM.stages") == [f"{grafts}.2.stages"]
    assert found_paths(cfg, "AWConv.reduce_c1") == [f"{grafts}.1.reduce_c1"]
    assert found_paths(cfg, "ResNet_CIFAR.base_channels") == ["model.backbone.backbone.base_channels"]
    assert found_paths(cfg, "optim_wrapper.optimizer.lr") == ["optim_wrapper.optimizer.lr"]
    assert found_paths(cfg, f"{grafts}.3.distance") == [f"{grafts}.3.distance"]
    padding = "train_dataloader.dataset.pipeline.1.padding"
    assert found_paths(cfg, padding) == [padding]


def test_a_key_of_a_dict_may_have_dots():
    cfg = load_config("configs/tam/r18_tam_300e_cifar10.py")
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys={"backbone.layer1": dict(lr_mult=0.1)})
    option = Options(cfg).find("optim_wrapper.paramwise_cfg.custom_keys.backbone.layer1.lr_mult")
    changed = with_values(cfg, [(option, 0.5)])
    assert changed.optim_wrapper.paramwise_cfg.custom_keys == {"backbone.layer1": dict(lr_mult=0.5)}


def test_options_of_what_is_imported_late():
    cfg = load_config("configs/ltpa/vgg_ltpa-att2-concat-pc_300e_cifar10.py")
    assert found_paths(cfg, "LTPAHead.combine") == ["model.head.combine"]
    cfg.model.head.pop("combine")
    assert found_paths(cfg, "combine") == ["model.head.combine"]
    cfg = load_config("configs/fcos_tdaf_r50.py")
    assert found_paths(cfg, "TDAF.eta") == ["model.backbone.eta"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("grop_size", "the nearest: TAM.group_size"),
        ("SE.group_size", "the nearest: TAM.group_size"),
        ("optim_wrapper.optimizer.lrr", "the nearest: optim_wrapper.optimizer.lr, "),
        ("train_cfg.max_epoch", "the nearest: train_cfg.max_epochs, "),
        ("xyzzy", "give TYPE.NAME, such as "),
        ("steps.distance", "the nearest: TD.distance"),
        ("stages", "name one: TD.stages, AWConv.stages, TAM.stages"),
        ("model.backbone", "has no such option"),
        ("model.backbone.grafts", "has no such option"),
        ("randomness.seed", "--seeds sets the seeds"),
        # A name of the config file, whose value is elsewhere, too.
        (
            "train_pipeline.1.padding",
            "training doesn't read train_pipeline; the nearest: train_dataloader.dataset.pipeline.1.padding",
        ),
        ("test_dataloader.batch_size", "training doesn't read test_dataloader; the nearest: "),
    ],
)
def test_a_wrong_key_is_told_with_the_nearest(cfg, key, said):
    with pytest.raises(UserError) as error:
        Options(cfg).find(key)
    assert said in str(error.value) and str(error.value).startswith(f"--vary {key}: ")


def test_values_are_set_everywhere_in_a_copy(cfg):
    option = Options(cfg).find("TD.steps", (2, 4))
    changed = with_values(cfg, [(option, 4), (Options(cfg).find("group_size"), 8)])
    grafts = changed.model.backbone.grafts
    assert [graft.get("steps") for graft in grafts] == [4, None, None, 4]
    assert grafts[2].group_size == 8
    assert [graft.get("steps") for graft in cfg.model.backbone.grafts] == [None, None, None, 3]
