_base_ = "./r101_plain_125e_in1k.py"

# As in the text: all blocks of layer 4, and ten alternating blocks of layer 3.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[
            dict(
                type="attn_mm.TD",
                mode="joint",
                steps=2,
                distance=1,
                stages=(2, 3),
                blocks=((0, 2, 4, 6, 8, 10, 12, 14, 16, 18), "all"),
            )
        ],
    )
)
