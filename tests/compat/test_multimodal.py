"""mmpretrain beside a transformers that lacks the names which mmpretrain imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("mmpretrain")

# As version 5: no apply_chunking_to_forward and its like in modeling_utils.
PACKAGE = {
    "__init__.py": "class AutoConfig: pass\n",
    "modeling_utils.py": "class PreTrainedModel: pass\nclass GenerationMixin: pass\n",
}


def test_the_models_can_be_imported(tmp_path):
    package = tmp_path / "transformers"
    package.mkdir()
    for name, text in PACKAGE.items():
        (package / name).write_text(text)
    about = tmp_path / "transformers-5.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import attn_mm, mmpretrain.models\n"
        "from mmpretrain.registry import MODELS\n"
        "MODELS.build(dict(type='ResNet', depth=18))\n"
        "try: MODELS.build(dict(type='BlipCaption'))\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "mmpretrain[multimodal]" in done.stdout
