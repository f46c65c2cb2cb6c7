_base_ = "mmpretrain::convnext/convnext-tiny_32xb128_in1k.py"

# mmpretrain's sets are not marked as such.
val_dataloader = dict(dataset=dict(test_mode=True))
test_dataloader = dict(dataset=dict(test_mode=True))
