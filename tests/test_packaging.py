"""What the package promises about itself: its versions, its folders, what it must not hold."""

import importlib
import re
import subprocess
import sys
from itertools import chain

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")


@pytest.fixture(scope="module")
def project(repo):
    return tomllib.loads((repo / "pyproject.toml").read_text())


def pins(lines):
    return dict(re.match(r"([\w.-]+)==([\w.+-]+)", line).groups() for line in lines if "==" in line)


def test_requirements_are_the_default_set(repo, project):
    default = pins((repo / "requirements/default.txt").read_text().splitlines())
    wanted = pins(project["tool"]["uv"]["constraint-dependencies"])
    assert wanted and wanted.items() <= default.items(), "see docs/install.md"
    overrides = project["tool"]["uv"]["override-dependencies"]
    dropped = {re.split(r"[ ;]", r)[0] for r in overrides if "< '3'" in r}
    assert dropped == {"chumpy", "opencv-contrib-python", "opencv-python", "xtcocotools"}
    assert not dropped & default.keys()


def test_default_set_lies_in_the_promised_ranges(project):
    from packaging.requirements import Requirement

    chosen = pins(project["tool"]["uv"]["constraint-dependencies"])
    extras = project["project"]["optional-dependencies"].values()
    for text in chain(project["project"]["dependencies"], *extras):
        requirement = Requirement(text)
        if requirement.name in chosen:
            assert requirement.specifier.contains(chosen[requirement.name]), text


def test_installing_attn_mm_brings_no_framework(project):
    names = {re.match(r"[\w-]+", text).group() for text in project["project"]["dependencies"]}
    assert names == {"mmengine", "numpy", "opencv-python-headless", "setuptools", "torch", "torchvision"}


def test_every_package_is_listed(repo, project):
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(repo).parts) for path in (repo / "attn_mm").rglob("__init__.py")
    }
    assert listed == found | {"attn_mm.configs"}


def test_an_installed_attn_mm_finds_its_configs(repo, tmp_path):
    code = (
        "from attn_mm.utils.config import load_config; "
        "print(load_config('configs/fcos_tdaf_r50.py').model.backbone.type)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip().endswith("attn_mm.TDAF"), done.stderr


def test_console_scripts_exist(project):
    for target in project["project"]["scripts"].values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_no_lock_file_and_nothing_large_is_tracked(repo):
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=repo, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.split("\0")):
        path = repo / name
        assert path.name != "uv.lock"
        assert not path.exists() or path.stat().st_size < 2**20, name
