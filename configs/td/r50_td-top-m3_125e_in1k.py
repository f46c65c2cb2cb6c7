_base_ = "./r50_plain_125e_in1k.py"

# Of the third stage's six blocks five: of these are the published parameters and multiply-adds.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[
            dict(
                type="attn_mm.TD",
                mode="top",
                steps=2,
                distance=3,
                stages=(2, 3),
                blocks=((0, 1, 2, 3, 4), "all"),
            )
        ],
    )
)
