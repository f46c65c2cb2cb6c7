_base_ = "./vgg16_plain_120e_in1k.py"

# As in the text: an ANAR behind each of the five pools, c the channels of its input (table 1). With 3x3 skip
# convolutions this, too, has the published parameters.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.TDAF",
        backbone={{_base_.model.backbone}},
        flows=3,
        anar=5,
        width="stage",
        skip_kernel=3,
        stage_ends=(0, 1, 2, 3, 4, 5),
    )
)
