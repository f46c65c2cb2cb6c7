"""Silence warnings of the frameworks that users can do nothing about."""

import warnings

for _message in (
    "pkg_resources is deprecated",
    "torch.meshgrid: in an upcoming release",
    "In MMCV v1.4.4, we modified the default value",
    r"`torch\.cuda\.amp\.autocast\(args\.\.\.\)` is deprecated",
    "The metainfo config file .* does not exist. A matched config file",
):
    warnings.filterwarnings("ignore", message=_message)
