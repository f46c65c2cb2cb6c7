_base_ = ["../runtimes/classification.py", "../datasets/cifar100.py", "../schedules/ltpa_300e_vgg.py"]

# Flips alone, as in the code that the paper names.
train_pipeline = [
    dict(type="attn_mm.LoadImage"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
