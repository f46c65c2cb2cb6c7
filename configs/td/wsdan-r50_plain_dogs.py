_base_ = ["../_base_/recipes/wsdan-r50.py", "../_base_/datasets/fine_448.py"]

model = dict(head=dict(num_classes=120))
train_dataloader = dict(
    dataset=dict(type="attn_mm.StanfordDogs", data_root="data/stanford_dogs", split="train")
)
val_dataloader = dict(dataset=dict(type="attn_mm.StanfordDogs", data_root="data/stanford_dogs", split="test"))
test_dataloader = val_dataloader
