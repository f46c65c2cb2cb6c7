"""What an import costs, told by the modules that it brings: seconds would depend on the machine."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    *("torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy", "triton"),
    *("torchvision", "timm", "mmcv", "mmdet", "mmpose", "mmaction", "mmpretrain", "mmseg"),
    *("cv2", "matplotlib", "scipy", "pandas", "PIL", "onnx", "onnxruntime", "pycocotools", "xtcocotools"),
)
"""What takes long to import, and no import of ours may bring unasked."""

KERNELS = ("attn_mm.layers.forms.aw_triton", "attn_mm.layers.forms.tam_triton")

REPORT = """
import sys
code, heavy = sys.argv[1], sys.argv[2].split()
try:
    exec(code)
except SystemExit as end:
    assert not end.code, end.code
print("BROUGHT", *(name for name in heavy if name in sys.modules))
"""


def brought(code: str, heavy: tuple[str, ...]) -> list[str]:
    """Which of ``heavy`` a fresh Python has imported after ``code``."""
    command = [sys.executable, "-c", REPORT, code, " ".join(heavy)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_torch_alone():
    code = "import attn_mm, attn_mm.layers, attn_mm.graft.blocks"
    assert brought(code, (*HEAVY, *KERNELS, "mmengine", "rich")) == []


def test_help_needs_no_runner():
    code = "from attn_mm.run.train import main; main(['--help'])"
    assert brought(code, (*HEAVY, "mmengine.runner", "mmengine.hub", "mmengine.model")) == []
