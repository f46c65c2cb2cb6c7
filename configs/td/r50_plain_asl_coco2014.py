_base_ = "./r50_plain_asl_coco.py"

# The split of 2014, as in the code of the asymmetric loss.
train_dataloader = dict(
    dataset=dict(ann_file="annotations/instances_train2014.json", data_prefix="train2014/")
)
val_dataloader = dict(dataset=dict(ann_file="annotations/instances_val2014.json", data_prefix="val2014/"))
test_dataloader = val_dataloader
