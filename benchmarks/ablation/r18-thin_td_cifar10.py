"""TD on the network of r18-thin_tam_cifar10.py."""

_base_ = "./r18-thin_tam_cifar10.py"

model = dict(backbone=dict(grafts=[dict(type="attn_mm.TD", mode="joint", steps=2, distance=1)]))
