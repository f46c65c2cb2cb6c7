_base_ = ["../_base_/recipes/wsdan-r50.py", "../_base_/datasets/fine_448.py"]

model = dict(head=dict(num_classes=200))
train_dataloader = dict(dataset=dict(type="CUB", data_root="data/CUB_200_2011", split="train"))
val_dataloader = dict(dataset=dict(type="CUB", data_root="data/CUB_200_2011", split="test"))
test_dataloader = val_dataloader
