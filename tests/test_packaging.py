"""What the package promises about itself: its versions, its folders, what it must not hold."""

import importlib
import re
import shutil
import subprocess
import sys
from itertools import chain

import pytest
import yaml

import attn_mm
from attn_mm.papers.metafile import folders

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")


@pytest.fixture(scope="module")
def project(repo):
    return tomllib.loads((repo / "pyproject.toml").read_text())


def pins(lines):
    return dict(re.match(r"([\w.-]+)==([\w.+-]+)", line).groups() for line in lines if "==" in line)


def versions(lines):
    """All versions of each package: some have several, for one version of Python or another."""
    found = {}
    for line in lines:
        if name := re.match(r"([\w.-]+)==([\w.+-]+)", line):
            found.setdefault(name[1], set()).add(name[2])
    return found


def test_requirements_are_the_default_set(repo, project):
    default = pins((repo / "requirements/default.txt").read_text().splitlines())
    wanted = pins(project["tool"]["uv"]["constraint-dependencies"])
    assert wanted and wanted.items() <= default.items(), "see docs/install.md"
    overrides = project["tool"]["uv"]["override-dependencies"]
    dropped = {re.split(r"[ ;]", r)[0] for r in overrides if "< '3'" in r}
    assert dropped == {"chumpy", "opencv-contrib-python", "opencv-python", "xtcocotools"}
    assert not dropped & default.keys()


def test_requirements_have_all_that_the_default_set_asks_for(repo, project):
    listed = pins((repo / "requirements/default.txt").read_text().splitlines())
    asked = [*project["project"]["dependencies"]]
    asked += chain(*(project["dependency-groups"][name] for name in ("dev", "lint", "test", "types")))
    names = set()
    while asked:
        if isinstance(text := asked.pop(), str):
            name, extras = re.match(r"([\w.-]+)(?:\[(.+)\])?", text).groups()
            names.add(name.lower())
            if name == "attn-mm":
                asked += chain(*(project["project"]["optional-dependencies"][x] for x in extras.split(",")))
    names.remove("attn-mm")
    assert {"grad-cam", "av"} <= names and names <= listed.keys(), "see docs/install.md"


def test_requirements_are_what_the_documented_command_exports(repo, project):
    """Without a network: from the lock file that ``uv sync`` and ``uv run`` write."""
    page = (repo / "docs/install.md").read_text()
    options = re.search(r"^uv export (.+) -o requirements/default.txt$", page, re.M)[1].split()
    if shutil.which("uv") is None or not (repo / "uv.lock").exists():
        pytest.skip("needs uv and its lock file")
    # Frozen, because other processes may be writing that file.
    command = ["uv", "export", "--frozen", "--offline", "--quiet", *options]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
    exported = done.stdout.splitlines()
    listed = (repo / "requirements/default.txt").read_text().splitlines()
    pinned = pins(project["tool"]["uv"]["constraint-dependencies"])
    old = versions(listed)
    new = versions(exported)
    newer = {name for name in new.keys() & old.keys() if new[name] != old[name]} - pinned.keys()
    if newer:
        pytest.skip(f"other versions of {', '.join(sorted(newer))} since the file was written")
    assert new == old, "see docs/install.md"


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
    assert names == {
        "mmengine",
        "msgspec",
        "numpy",
        "setuptools",
        "torch",
        "torchvision",
    }


def files(folder, suffixes):
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in suffixes)
    return {path.as_posix() for path in found}


def test_the_wheel_holds_every_module_every_config_and_the_page(repo, tmp_path):
    build = "from setuptools import setup; setup()"
    command = ["-c", build, "-q", "egg_info", f"--egg-base={tmp_path}", "build_py", f"--build-lib={tmp_path}"]
    subprocess.run([sys.executable, *command], cwd=repo, check=True, capture_output=True)
    built = tmp_path / "attn_mm"
    modules = files(repo / "attn_mm", {".py", ".js", ".css", ".html", ".typed"})
    configs = files(repo / "configs", {".py", ".yml", ".md"})
    assert {"py.typed", "__init__.py"} <= modules and "fcos_tdaf_r50.py" in configs
    assert files(built / ".mim/configs", {".py", ".yml", ".md"}) == configs
    assert files(built / ".mim/tools", {".py", ".sh"}) == files(repo / "tools", {".py", ".sh"})
    held = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert {name for name in held if not name.startswith((".mim/configs/", ".mim/tools/"))} == {
        *modules,
        ".mim/model-index.yml",
    }


def test_the_index_of_mim_names_every_metafile_and_its_configs(repo):
    """openmim's ``search`` and ``download`` read the index in ``.mim``, ``train`` the configs and tools."""
    mim = repo / "attn_mm/.mim"
    index = yaml.safe_load((mim / "model-index.yml").read_text())
    assert index["Import"] == sorted(f"configs/{name}/metafile.yml" for name in folders())
    for name in index["Import"]:
        content = yaml.safe_load((mim / name).read_text())
        # Without a name behind the last slash mim downloads no weights.
        assert content["Collections"][0]["Metadata"]["Weight"] == "none/"
        assert all((mim / model["Config"]).is_file() for model in content["Models"])
    assert (mim / "tools/train.py").is_file() and (mim / "tools/test.py").is_file()


def test_there_is_one_version(repo, project):
    assert attn_mm.__version__ == project["project"]["version"]
    literal = f'"{project["project"]["version"]}"'
    assert not [path for path in (repo / "attn_mm").rglob("*.py") if literal in path.read_text()]


def test_citation_and_changelog_name_the_version(repo, project):
    citation = yaml.safe_load((repo / "CITATION.cff").read_text())
    version = project["project"]["version"]
    assert citation["version"] == version
    assert len([work for work in citation["references"] if work.get("authors")]) == 5
    changes = (repo / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.+?)\]", changes, re.M)[:2] == ["Unreleased", version]


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
