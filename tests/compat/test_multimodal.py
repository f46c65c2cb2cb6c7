"""mmpretrain and mmaction beside a transformers that lacks the names which they import."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from attn_mm.compat import multimodal

# As version 5: no apply_chunking_to_forward and its like in modeling_utils.
VERSION_5 = {
    "__init__.py": "class AutoConfig: pass\n",
    "modeling_utils.py": "class PreTrainedModel: pass\nclass GenerationMixin: pass\n",
}
VERSION_4 = {
    "__init__.py": "",
    "modeling_utils.py": "\n".join(f"class {name}: pass" for name in multimodal._NEEDED),
}


def install(folder, files):
    package = folder / "transformers"
    package.mkdir()
    for name, text in files.items():
        (package / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        (VERSION_4, True),
        (VERSION_5, False),
        ({"__init__.py": "raise RuntimeError"}, False),
    ],
)
def test_a_transformers_without_the_names_counts_as_missing(tmp_path, monkeypatch, files, usable):
    install(tmp_path, files)
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    dependency = SimpleNamespace(WITH_MULTIMODAL=True)
    multimodal._leave_out(dependency)
    assert dependency.WITH_MULTIMODAL is usable
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        del sys.modules[name]


@pytest.mark.whole
@pytest.mark.parametrize(
    "framework, plain, multimodal",
    [
        ("mmpretrain", "dict(type='ResNet', depth=18)", "BlipCaption"),
        ("mmaction", "dict(type='ResNet', depth=18, pretrained=None)", "VindLUVQA"),
    ],
)
def test_the_models_can_be_imported(framework, plain, multimodal, tmp_path):
    pytest.importorskip(framework)
    install(tmp_path, VERSION_5)
    about = tmp_path / "transformers-5.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"import attn_mm, {framework}.models\n"
        f"from {framework}.registry import MODELS\n"
        f"MODELS.build({plain})\n"
        f"try: MODELS.build(dict(type='{multimodal}'))\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "[multimodal]" in done.stdout
