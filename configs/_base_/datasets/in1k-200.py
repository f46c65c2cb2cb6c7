_base_ = "./in1k.py"

# 200 of ImageNet's classes, those that meta/classes_200.txt lists (docs/data.md).
data_preprocessor = dict(num_classes=200)
subset = dict(type="attn_mm.ImageNetSubset", class_file="meta/classes_200.txt")
train_dataloader = dict(dataset=subset)
val_dataloader = dict(dataset=subset)
test_dataloader = dict(dataset=subset)
