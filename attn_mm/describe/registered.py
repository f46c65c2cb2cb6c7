"""Recipes for small networks of every backbone class that the frameworks register.

The table of what can be grafted onto what is made with them.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

Shape = tuple[int, ...]

IMAGES = (2, 3, 64, 64)
FRAMES = (8, 3, 64, 64)
"""One clip of eight frames, in mmaction's 2D networks."""
CLIPS = (2, 3, 8, 64, 64)


class Recipe(NamedTuple):
    """How to build a small network.

    Attributes:
        options: of the backbone's config, without its type.
        inputs: shapes of the inputs of its forward.
        cannot_run: why its forward fails without more than OpenMMLab's wheels, empty where it runs.
    """

    options: dict[str, Any]
    inputs: tuple[Shape, ...] = (IMAGES,)
    cannot_run: str = ""


_SPARSE = "its forward needs the mask that SparK's pretraining sets"


def _hrnet(**block: Any) -> dict[str, Any]:
    stages = [
        dict(
            num_modules=1,
            num_branches=n,
            block="BASIC",
            num_blocks=[1] * n,
            num_channels=[16, 32, 48, 64][:n],
        )
        for n in (2, 3, 4)
    ]
    first = dict(num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(1,), num_channels=(16,))
    extra = dict(zip(("stage1", "stage2", "stage3", "stage4"), (first, *stages)))
    return dict(extra=extra)


_STDC: dict[str, Any] = dict(
    stdc_type="STDCNet1",
    in_channels=3,
    channels=(8, 16, 32, 64, 128),
    bottleneck_type="cat",
    norm_cfg=dict(type="BN"),
    act_cfg=dict(type="ReLU"),
)


def _vit() -> dict[str, Any]:
    return dict(img_size=64, embed_dims=32, num_layers=2, num_heads=2)


def _hrformer() -> dict[str, Any]:
    extra = _hrnet()["extra"]
    for name in ("stage2", "stage3", "stage4"):
        n = extra[name]["num_branches"]
        extra[name] |= dict(
            block="HRFORMERBLOCK",
            num_heads=[1, 2, 3, 4][:n],
            window_sizes=[7] * n,
            mlp_ratios=[2] * n,
        )
    # Its default is SyncBN, which needs a GPU.
    return dict(extra=dict(drop_path_rate=0.1, with_rpe=True, **extra), norm_cfg=dict(type="BN"))


_LITE = dict(
    stem=dict(stem_channels=32, out_channels=32, expand_ratio=1),
    num_stages=3,
    stages_spec=dict(
        num_modules=(1, 1, 1),
        num_branches=(2, 3, 4),
        num_blocks=(2, 2, 2),
        module_type=("NAIVE", "NAIVE", "NAIVE"),
        with_fuse=(True, True, True),
        reduce_ratios=(8, 8, 8),
        num_channels=((32, 64), (32, 64, 128), (32, 64, 128, 256)),
    ),
    with_head=True,
)
_HOURGLASS = dict(
    downsample_times=3,
    num_stacks=2,
    stage_channels=(16, 16, 32, 32),
    stage_blocks=(1, 1, 1, 1),
    feat_channel=16,
)
_RESNET = dict(depth=50, base_channels=16, stem_channels=16)
_SLIM_RESNET = dict(depth=50, base_channels=16, stem_channels=16, expansion=4)
_PATHWAY = dict(type="resnet3d", depth=50, pretrained=None, conv1_kernel=(1, 7, 7), dilations=(1, 1, 1, 1))
_TINY_SWIN = dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)
_TINY_PVT = dict(embed_dims=16, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
_GRAPH = dict(graph_cfg=dict(layout="coco", mode="stgcn_spatial"))
_VIT = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
_VIT_ARCH = dict(arch=_VIT, img_size=64, patch_size=16, out_type="featmap")

RECIPES: dict[str, Recipe] = {
    "mmdet.CSPDarknet": Recipe(dict(widen_factor=0.25, deepen_factor=0.33)),
    "mmdet.CSPNeXt": Recipe(dict(widen_factor=0.25, deepen_factor=0.33)),
    "mmdet.Darknet": Recipe(dict(depth=53)),
    "mmdet.ResNet": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmdet.ResNetV1d": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmdet.DetectoRS_ResNet": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmdet.DetectoRS_ResNeXt": Recipe(
        dict(depth=50, base_channels=16, stem_channels=16, groups=4, base_width=4)
    ),
    "mmdet.EfficientNet": Recipe(dict(arch="b0")),
    "mmdet.HourglassNet": Recipe(_HOURGLASS),
    "mmdet.HRNet": Recipe(_hrnet()),
    "mmdet.MobileNetV2": Recipe(dict(widen_factor=1.0)),
    "mmdet.PyramidVisionTransformer": Recipe(dict(**_TINY_PVT, pretrain_img_size=64)),
    "mmdet.PyramidVisionTransformerV2": Recipe(_TINY_PVT),
    "mmdet.ResNeXt": Recipe(dict(depth=50, base_channels=16, stem_channels=16, groups=4, base_width=4)),
    "mmdet.RegNet": Recipe(dict(arch="regnetx_400mf")),
    "mmdet.Res2Net": Recipe(dict(depth=50, base_channels=16, stem_channels=16, scales=4, base_width=26)),
    "mmdet.ResNeSt": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmdet.SSDVGG": Recipe(
        dict(depth=16, with_last_pool=False, ceil_mode=True, out_indices=(3, 4), out_feature_indices=(22, 34))
    ),
    "mmdet.SwinTransformer": Recipe(dict(**_TINY_SWIN, pretrain_img_size=64)),
    "mmdet.TridentResNet": Recipe(
        dict(
            depth=50,
            base_channels=16,
            stem_channels=16,
            num_branch=3,
            test_branch_idx=1,
            trident_dilations=(1, 2, 3),
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
        )
    ),
    "mmpose.AlexNet": Recipe(dict()),
    "mmpose.CPM": Recipe(dict(in_channels=3, out_channels=17, num_stages=2)),
    "mmpose.CSPDarknet": Recipe(dict(widen_factor=0.25, deepen_factor=0.33)),
    "mmpose.CSPNeXt": Recipe(dict(widen_factor=0.25, deepen_factor=0.33)),
    "mmpose.DSTFormer": Recipe(dict(in_channels=3, feat_size=32, depth=1, num_heads=2), ((2, 8, 17, 3),)),
    "mmpose.ResNet": Recipe(_SLIM_RESNET),
    "mmpose.ResNetV1d": Recipe(_SLIM_RESNET),
    "mmpose.HourglassNet": Recipe(dict(_HOURGLASS, stage_channels=(256, 16, 16, 32))),
    "mmpose.HourglassAENet": Recipe(
        dict(downsample_times=3, stage_channels=(16, 16, 32, 32), feat_channels=16)
    ),
    "mmpose.HRNet": Recipe(_hrnet()),
    "mmpose.HRFormer": Recipe(_hrformer()),
    "mmpose.LiteHRNet": Recipe(dict(extra=_LITE)),
    "mmpose.MobileNetV2": Recipe(dict(widen_factor=1.0)),
    "mmpose.MobileNetV3": Recipe(dict(arch="small")),
    "mmpose.MSPN": Recipe(dict(unit_channels=16, num_stages=2, num_blocks=[1, 1, 1, 1])),
    "mmpose.PyramidVisionTransformer": Recipe(dict(**_TINY_PVT, pretrain_img_size=64)),
    "mmpose.PyramidVisionTransformerV2": Recipe(_TINY_PVT),
    "mmpose.ResNeXt": Recipe(dict(depth=50, groups=4, width_per_group=4)),
    "mmpose.RegNet": Recipe(dict(arch="regnetx_400mf")),
    "mmpose.ResNeSt": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmpose.RSN": Recipe(dict(unit_channels=16, num_stages=2, num_blocks=[1, 1, 1, 1], expand_times=8)),
    "mmpose.SCNet": Recipe(dict(depth=50, base_channels=16, stem_channels=16), ((2, 3, 128, 128),)),
    "mmpose.SEResNet": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmpose.SEResNeXt": Recipe(dict(depth=50, groups=4, width_per_group=4)),
    "mmpose.ShuffleNetV1": Recipe(dict(groups=3, widen_factor=0.5)),
    "mmpose.ShuffleNetV2": Recipe(dict(widen_factor=0.5)),
    "mmpose.SwinTransformer": Recipe(dict(**_TINY_SWIN, pretrain_img_size=64)),
    "mmpose.TCN": Recipe(dict(in_channels=34, stem_channels=32, num_blocks=2), ((2, 34, 81),)),
    "mmpose.V2VNet": Recipe(
        dict(input_channels=17, output_channels=15, mid_channels=16), ((2, 17, 16, 16, 16),)
    ),
    "mmpose.VGG": Recipe(dict(depth=11, num_classes=-1, norm_cfg=dict(type="BN"))),
    "mmpose.ViPNAS_MobileNetV3": Recipe(dict()),
    "mmpose.ViPNAS_ResNet": Recipe(dict(depth=50)),
    "mmaction.AAGCN": Recipe(dict(**_GRAPH, base_channels=16, num_stages=4), ((1, 2, 16, 17, 3),)),
    "mmaction.ResNet": Recipe(dict(depth=50), (FRAMES,)),
    "mmaction.C2D": Recipe(dict(depth=50), (CLIPS,)),
    "mmaction.C3D": Recipe(dict(out_dim=512 * 9), ((2, 3, 16, 64, 64),)),
    "mmaction.MobileNetV2": Recipe(dict(widen_factor=1.0), (FRAMES,)),
    "mmaction.ResNetTSM": Recipe(dict(depth=50, num_segments=8), (FRAMES,)),
    "mmaction.MobileNetV2TSM": Recipe(dict(widen_factor=1.0, num_segments=8), (FRAMES,)),
    "mmaction.MViT": Recipe(dict(arch="tiny", temporal_size=8, spatial_size=64), (CLIPS,)),
    "mmaction.ResNet3d": Recipe(dict(depth=50, base_channels=16, pretrained=None), (CLIPS,)),
    "mmaction.ResNet3dLayer": Recipe(
        dict(depth=50, base_channels=16, pretrained=None), ((2, 1024, 4, 8, 8),)
    ),
    "mmaction.ResNet2Plus1d": Recipe(
        dict(
            depth=18,
            base_channels=16,
            pretrained=None,
            pretrained2d=False,
            norm_eval=False,
            conv_cfg=dict(type="Conv2plus1d"),
            norm_cfg=dict(type="BN3d"),
            conv1_kernel=(3, 7, 7),
            conv1_stride_t=1,
            pool1_stride_t=1,
            inflate=(1, 1, 1, 1),
            spatial_strides=(1, 2, 2, 2),
            temporal_strides=(1, 2, 2, 2),
        ),
        (CLIPS,),
    ),
    "mmaction.ResNet3dCSN": Recipe(
        dict(depth=50, base_channels=16, pretrained=None, with_pool2=False), (CLIPS,)
    ),
    "mmaction.ResNet3dSlowFast": Recipe(
        dict(
            pretrained=None,
            slow_pathway=dict(
                **_PATHWAY,
                base_channels=32,
                lateral=True,
                conv1_stride_t=1,
                pool1_stride_t=1,
                inflate=(0, 0, 1, 1),
            ),
            fast_pathway=dict(
                type="resnet3d",
                depth=50,
                pretrained=None,
                lateral=False,
                base_channels=16,
                conv1_kernel=(5, 7, 7),
                conv1_stride_t=1,
                pool1_stride_t=1,
            ),
            channel_ratio=2,
        ),
        ((2, 3, 16, 64, 64),),
    ),
    "mmaction.ResNet3dSlowOnly": Recipe(dict(depth=50, base_channels=16, pretrained=None), (CLIPS,)),
    "mmaction.ResNetAudio": Recipe(dict(depth=50, base_channels=16), ((2, 1, 64, 64),)),
    "mmaction.OmniResNet": Recipe(dict(layers=[1, 1, 1, 1]), (CLIPS,)),
    "mmaction.ResNetTIN": Recipe(
        dict(depth=50, num_segments=8, shift_div=4), (FRAMES,), "tin_shift needs a compiled mmcv"
    ),
    "mmaction.RGBPoseConv3D": Recipe(dict(), ((1, 3, 4, 64, 64), (1, 17, 16, 16, 16))),
    "mmaction.STGCN": Recipe(dict(**_GRAPH, base_channels=16, num_stages=4), ((2, 1, 16, 17, 3),)),
    "mmaction.SwinTransformer3D": Recipe(
        dict(
            arch=dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            pretrained2d=False,
            window_size=(4, 4, 4),
        ),
        (CLIPS,),
    ),
    "mmaction.TANet": Recipe(dict(depth=50, num_segments=8), (FRAMES,)),
    "mmaction.TimeSformer": Recipe(
        dict(
            num_frames=8,
            img_size=64,
            patch_size=16,
            embed_dims=32,
            num_heads=2,
            num_transformer_layers=2,
            pretrained=None,
        ),
        (CLIPS,),
    ),
    "mmaction.UniFormer": Recipe(
        dict(depth=[1, 1, 1, 1], img_size=64, embed_dim=[16, 32, 32, 64], head_dim=16, pretrained=None),
        (CLIPS,),
    ),
    "mmaction.UniFormerV2": Recipe(
        dict(
            input_resolution=64,
            patch_size=16,
            width=32,
            layers=2,
            heads=2,
            t_size=8,
            n_layers=1,
            n_dim=32,
            n_head=2,
            return_list=[1],
            clip_pretrained=False,
        ),
        (CLIPS,),
    ),
    "mmaction.VisionTransformer": Recipe(
        dict(
            img_size=64,
            patch_size=16,
            embed_dims=32,
            depth=2,
            num_heads=2,
            num_frames=8,
            return_feat_map=True,
        ),
        (CLIPS,),
    ),
    "mmaction.X3D": Recipe(dict(gamma_w=1, gamma_b=2.25, gamma_d=2.2), (CLIPS,)),
    "mmaction.MobileOneTSM": Recipe(dict(arch="s0", num_segments=8), (FRAMES,)),
    "mmpretrain.AlexNet": Recipe(dict(), ((2, 3, 224, 224),)),
    "mmpretrain.VisionTransformer": Recipe(_VIT_ARCH),
    "mmpretrain.BEiTViT": Recipe(_VIT_ARCH),
    "mmpretrain.Conformer": Recipe(dict(arch="tiny", patch_size=16)),
    "mmpretrain.ConvMixer": Recipe(dict(arch=dict(embed_dims=32, depth=4, patch_size=7, kernel_size=9))),
    "mmpretrain.ConvNeXt": Recipe(
        dict(arch=dict(depths=[1, 1, 2, 1], channels=[16, 32, 48, 64]), gap_before_final_norm=False)
    ),
    "mmpretrain.ResNet": Recipe(_SLIM_RESNET),
    "mmpretrain.ResNetV1c": Recipe(_SLIM_RESNET),
    "mmpretrain.ResNetV1d": Recipe(_SLIM_RESNET),
    "mmpretrain.ResNeXt": Recipe(dict(depth=50, groups=4, width_per_group=4)),
    "mmpretrain.CSPDarkNet": Recipe(dict(depth=53)),
    "mmpretrain.CSPResNet": Recipe(dict(depth=50)),
    "mmpretrain.CSPResNeXt": Recipe(dict(depth=50)),
    "mmpretrain.DaViT": Recipe(
        dict(
            arch=dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            window_size=4,
            pad_small_map=True,
        )
    ),
    "mmpretrain.DistilledVisionTransformer": Recipe(
        dict(arch=_VIT, img_size=64, patch_size=16, out_type="featmap")
    ),
    "mmpretrain.DeiT3": Recipe(_VIT_ARCH),
    "mmpretrain.DenseNet": Recipe(dict(arch=dict(growth_rate=16, depths=[2, 2, 3, 2], init_channels=32))),
    "mmpretrain.EdgeNeXt": Recipe(dict(arch="xxsmall", gap_before_final_norm=False)),
    "mmpretrain.PoolFormer": Recipe(dict(arch="s12")),
    "mmpretrain.EfficientFormer": Recipe(dict(arch="l1", reshape_last_feat=True), ((2, 3, 224, 224),)),
    "mmpretrain.EfficientNet": Recipe(dict(arch="b0")),
    "mmpretrain.EfficientNetV2": Recipe(dict(arch="b0")),
    "mmpretrain.HiViT": Recipe(
        dict(
            arch=dict(embed_dims=32, depths=[1, 1, 2], num_heads=2),
            img_size=64,
            ape=False,
            rpe=False,
        )
    ),
    "mmpretrain.HorNet": Recipe(
        dict(
            arch=dict(
                base_dim=32,
                depths=[1, 1, 2, 1],
                orders=[2, 3, 4, 5],
                dw_cfg=[dict(type="DW", kernel_size=7)] * 4,
            ),
            gap_before_final_norm=False,
        )
    ),
    "mmpretrain.HRNet": Recipe(_hrnet()),
    "mmpretrain.InceptionV3": Recipe(dict(), ((2, 3, 96, 96),)),
    "mmpretrain.LeNet5": Recipe(dict(), ((2, 1, 32, 32),)),
    "mmpretrain.LeViT": Recipe(dict(arch="128s", img_size=224), ((2, 3, 224, 224),)),
    "mmpretrain.MixMIMTransformer": Recipe(
        dict(
            arch=dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            img_size=64,
            window_size=[4, 4, 4, 2],
        )
    ),
    "mmpretrain.MlpMixer": Recipe(
        dict(
            arch=dict(embed_dims=32, num_layers=2, tokens_mlp_dims=16, channels_mlp_dims=64),
            img_size=64,
            patch_size=16,
        )
    ),
    "mmpretrain.MobileNetV2": Recipe(dict(widen_factor=1.0)),
    "mmpretrain.MobileNetV3": Recipe(dict(arch="small")),
    "mmpretrain.MobileOne": Recipe(dict(arch="s0")),
    "mmpretrain.MobileViT": Recipe(dict(arch="xx_small")),
    "mmpretrain.MViT": Recipe(dict(arch="tiny", img_size=64, out_scales=(0, 1, 2, 3))),
    "mmpretrain.RegNet": Recipe(dict(arch="regnetx_400mf")),
    "mmpretrain.RepLKNet": Recipe(dict(arch="31B")),
    "mmpretrain.RepMLPNet": Recipe(dict(arch="base", img_size=224), ((2, 3, 224, 224),)),
    "mmpretrain.RepVGG": Recipe(dict(arch="A0")),
    "mmpretrain.Res2Net": Recipe(dict(depth=50, scales=4, base_width=26, deep_stem=False, avg_down=False)),
    "mmpretrain.ResNeSt": Recipe(dict(depth=50)),
    "mmpretrain.ResNet_CIFAR": Recipe(dict(depth=50, base_channels=16, stem_channels=16), ((2, 3, 32, 32),)),
    "mmpretrain.RevVisionTransformer": Recipe(dict(arch=_VIT, img_size=64, patch_size=16)),
    "mmpretrain.RIFormer": Recipe(dict(arch="s12")),
    "mmpretrain.SEResNet": Recipe(dict(depth=50)),
    "mmpretrain.SEResNeXt": Recipe(dict(depth=50, groups=4, width_per_group=4)),
    "mmpretrain.ShuffleNetV1": Recipe(dict(groups=3, widen_factor=0.5)),
    "mmpretrain.ShuffleNetV2": Recipe(dict(widen_factor=0.5)),
    "mmpretrain.SparseConvNeXt": Recipe(
        dict(arch=dict(depths=[1, 1, 2, 1], channels=[16, 32, 48, 64])), cannot_run=_SPARSE
    ),
    "mmpretrain.SparseResNet": Recipe(dict(depth=50), cannot_run=_SPARSE),
    "mmpretrain.SwinTransformer": Recipe(
        dict(
            arch=dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            img_size=64,
            window_size=4,
            pad_small_map=True,
        )
    ),
    "mmpretrain.SwinTransformerV2": Recipe(
        dict(
            arch=dict(
                embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], extra_norm_every_n_blocks=0
            ),
            img_size=64,
            window_size=4,
            pad_small_map=True,
        )
    ),
    "mmpretrain.T2T_ViT": Recipe(
        dict(
            img_size=64,
            embed_dims=32,
            num_layers=2,
            t2t_cfg=dict(token_dims=16, use_performer=False),
            layer_cfgs=dict(num_heads=2, feedforward_channels=64),
        )
    ),
    "mmpretrain.TIMMBackbone": Recipe(dict(model_name="resnet18", features_only=True)),
    "mmpretrain.TinyViT": Recipe(
        dict(arch="5m", img_size=(224, 224), gap_before_final_norm=False), ((2, 3, 224, 224),)
    ),
    "mmpretrain.TNT": Recipe(
        dict(
            arch=dict(
                embed_dims_outer=32, embed_dims_inner=12, num_layers=2, num_heads_outer=2, num_heads_inner=2
            ),
            img_size=64,
        )
    ),
    "mmpretrain.PCPVT": Recipe(dict(arch="small")),
    "mmpretrain.SVT": Recipe(dict(arch="small")),
    "mmpretrain.VAN": Recipe(dict(arch="tiny")),
    "mmpretrain.VGG": Recipe(dict(depth=11, num_classes=-1, norm_cfg=dict(type="BN"))),
    "mmpretrain.Vig": Recipe(dict(arch="tiny"), ((2, 3, 224, 224),)),
    "mmpretrain.PyramidVig": Recipe(dict(arch="tiny"), ((2, 3, 224, 224),)),
    "mmpretrain.ViTEVA02": Recipe(
        dict(
            arch=dict(num_layers=2, num_heads=2, embed_dims=32, feedforward_channels=64),
            img_size=64,
            patch_size=16,
            out_type="featmap",
        )
    ),
    "mmpretrain.ViTSAM": Recipe(
        dict(
            arch=dict(
                embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64, global_attn_indexes=[1]
            ),
            img_size=64,
            patch_size=16,
            out_channels=32,
            window_size=2,
        )
    ),
    "mmpretrain.XCiT": Recipe(
        dict(patch_size=16, depth=2, cls_attn_layers=1, embed_dims=32, num_heads=2, img_size=64)
    ),
    "mmseg.BEiT": Recipe(_vit()),
    "mmseg.BiSeNetV1": Recipe(
        dict(
            backbone_cfg=dict(type="ResNet", depth=18, base_channels=16, stem_channels=16),
            spatial_channels=(16, 16, 16, 32),
            context_channels=(32, 64, 128),
            out_channels=64,
        )
    ),
    "mmseg.BiSeNetV2": Recipe({}),
    "mmseg.CGNet": Recipe(dict(num_channels=(16, 32, 64), num_blocks=(2, 2))),
    "mmseg.DDRNet": Recipe(dict(channels=16, ppm_channels=32)),
    "mmseg.ERFNet": Recipe({}),
    "mmseg.FastSCNN": Recipe({}),
    "mmseg.HRNet": Recipe(_hrnet()),
    "mmseg.ICNet": Recipe(
        dict(
            backbone_cfg=dict(
                type="ResNetV1c",
                depth=18,
                base_channels=16,
                stem_channels=16,
                out_indices=(0, 2, 3),
                dilations=(1, 1, 2, 4),
                strides=(1, 2, 1, 1),
            ),
            layer_channels=(32, 128),
            psp_out_channels=32,
            out_channels=(16, 32, 32),
        ),
        ((2, 3, 128, 128),),
    ),
    "mmseg.MAE": Recipe(_vit()),
    "mmseg.MixVisionTransformer": Recipe(dict(embed_dims=16, num_layers=[1, 1, 1, 1])),
    "mmseg.MobileNetV2": Recipe({}),
    "mmseg.MobileNetV3": Recipe({}),
    "mmseg.MSCAN": Recipe(dict(embed_dims=[16, 32, 48, 64], depths=[1, 1, 1, 1], norm_cfg=dict(type="BN"))),
    "mmseg.PCPVT": Recipe(dict(embed_dims=[16, 32, 64, 128], depths=[1, 1, 1, 1])),
    "mmseg.PIDNet": Recipe(dict(channels=16, ppm_channels=32)),
    "mmseg.ResNeSt": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmseg.ResNeXt": Recipe(dict(depth=50, groups=4, base_width=16)),
    "mmseg.ResNet": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmseg.ResNetV1c": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmseg.ResNetV1d": Recipe(dict(depth=50, base_channels=16, stem_channels=16)),
    "mmseg.STDCContextPathNet": Recipe(
        dict(
            backbone_cfg=dict(type="STDCNet", **_STDC),
            last_in_channels=(128, 64),
            out_channels=32,
            ffm_cfg=dict(in_channels=64, out_channels=32, scale_factor=4),
        )
    ),
    "mmseg.STDCNet": Recipe(_STDC),
    "mmseg.SVT": Recipe(dict(embed_dims=[16, 32, 64], depths=[1, 1, 1])),
    "mmseg.SwinTransformer": Recipe(dict(embed_dims=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))),
    "mmseg.TIMMBackbone": Recipe(dict(model_name="resnet18", pretrained=False)),
    "mmseg.UNet": Recipe(dict(base_channels=8)),
    "mmseg.VisionTransformer": Recipe(_vit()),
}
"""A recipe for each registered backbone, by its name with the framework's scope."""


def config(name: str) -> dict[str, Any]:
    """The config of the small network with this name: ``config("mmdet.ResNet")``.

    It is built in its framework's scope, as a runner builds it. The framework must have been imported.
    """
    return dict(type=name, _scope_=name.partition(".")[0], **copy.deepcopy(RECIPES[name].options))
