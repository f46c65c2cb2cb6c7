"""The test suite on several sets of versions: ``uvx nox`` runs them all, ``uvx nox -s oldest`` one.

The default set is the one that ``uv run pytest`` uses; the others are the ends of
what pyproject.toml promises of Python, torch and NumPy.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["default", "oldest", "newest", "python312", "python313", "opencv", "compiled_mmcv"]

PROJECT = nox.project.load_toml("pyproject.toml")
DEFAULT = PROJECT["tool"]["uv"]["constraint-dependencies"]
# The extras that `uv run` installs.
EXTRAS = PROJECT["dependency-groups"]["dev"][0].partition("[")[2].rstrip("]")
OPENCV = next(pin for pin in DEFAULT if pin.startswith("opencv"))


def install_package(
    session: nox.Session,
    pins: list[str],
    extras: str,
    group: str,
    xtcocotools: bool = False,
    opencv: str = OPENCV,
) -> None:
    """Install attn_mm with ``pins`` and its frameworks, without the frameworks' broken requirements."""
    drop = [r for r in PROJECT["tool"]["uv"]["override-dependencies"] if not (xtcocotools and "xtcoco" in r)]
    # grad-cam requires this one, and two of OpenCV's packages overwrite each other.
    drop.append("opencv-python-headless; python_version < '3'")
    overrides = Path(session.create_tmp(), "overrides.txt")
    overrides.write_text("\n".join(drop) + "\n")
    tools = nox.project.dependency_groups(PROJECT, group)
    # An override drops the OpenCV that the frameworks require.
    session.install("--no-config", "--overrides", str(overrides), *pins, *tools, "-e", f".[{extras}]")
    session.install("--no-config", "--no-deps", opencv)


def run_tests(
    session: nox.Session,
    pins: list[str],
    mmcv: str = "lite",
    xtcocotools: bool = False,
    tests: Sequence[str] = (),
    opencv: str = OPENCV,
) -> None:
    """Run the tests with ``pins`` and a build of mmcv."""
    extras = EXTRAS if mmcv == "lite" else EXTRAS.replace("lite,", "")
    install_package(session, pins, extras, "test", xtcocotools, opencv)
    if mmcv == "compiled":
        session.install("--no-config", "ninja", "psutil", "setuptools<81", "wheel")
        session.install(
            "--no-config", "--no-deps", "--no-build-isolation", "mmcv==2.1.0", env={"MMCV_WITH_OPS": "1"}
        )
    session.run("pytest", *tests, *session.posargs)


@nox.session(python="3.11")
def default(session: nox.Session) -> None:
    run_tests(session, DEFAULT)


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    pins = ["torch==2.4.1", "torchvision==0.19.1", "numpy==1.26.4", "xtcocotools==1.14.3"]
    run_tests(session, pins, xtcocotools=True)


@nox.session(python="3.11")
def newest(session: nox.Session) -> None:
    run_tests(session, ["torch==2.15.0", "torchvision==0.29.2", "numpy==2.4.6"])


@nox.session(python="3.12")
def python312(session: nox.Session) -> None:
    run_tests(session, DEFAULT)


@nox.session(python="3.13")
def python313(session: nox.Session) -> None:
    run_tests(session, DEFAULT)


@nox.session(python="3.13")
@nox.parametrize(
    "opencv",
    [
        nox.param("opencv-python-headless>=5,<6", id="5-headless"),
        nox.param("opencv-python>=5,<6", id="5"),
        nox.param("opencv-python>=4.8,<5", id="4"),
    ],
)
def opencv(session: nox.Session, opencv: str) -> None:
    """OpenCV 4 and 5 with and without windows, the newest NumPy, and transformers 5 beside."""
    # Older ones of other packages exclude this NumPy.
    kept = [pin for pin in DEFAULT if pin.startswith(("mm", "torch"))]
    run_tests(session, [*kept, "numpy>=2.5,<2.6", "transformers>=5,<6"], opencv=opencv)


@nox.session(python="3.11")
def compiled_mmcv(session: nox.Session) -> None:
    run_tests(session, DEFAULT, mmcv="compiled")


@nox.session(python="3.11")
def whole_matrix(session: nox.Session) -> None:
    """What the other sessions take samples of: every graft on every backbone, every config's training."""
    session.env["ATTN_MM_WHOLE_MATRIX"] = "1"
    run_tests(session, DEFAULT, tests=["-m", "whole"])


@nox.session(python="3.11")
def notebook(session: nox.Session) -> None:
    """Run notebooks/bccd.ipynb in an empty folder, on the data in the folder that ATTN_MM_DATA names."""
    install_package(session, DEFAULT, "lite,det,explore", "notebook")
    copy = shutil.copy("notebooks/bccd.ipynb", session.create_tmp())
    session.run("jupyter", "execute", copy, *session.posargs)


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """Check the types of attn_mm/ against the default set."""
    install_package(session, DEFAULT, EXTRAS, "types")
    session.run("mypy", *session.posargs)


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Build the site into site/; a broken link or reference fails."""
    session.install("--no-config", *nox.project.dependency_groups(PROJECT, "docs"))
    session.env["NO_MKDOCS_2_WARNING"] = "1"
    session.run("mkdocs", "build", "--strict", *session.posargs)
