"""The site mirrors the repository, so that one relative link works in both.

A hook of MkDocs: ``docs/``, the READMEs and the configs keep their paths. A config becomes a page that shows
its source; a link to a folder leads to its README, or to a list of its files.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
PACKAGE = re.compile(r"^::: ([\w.]+)\.\*$", re.M)
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of ``docs_dir`` by those of the repository, under their paths from its root."""
    docs = Path(config.docs_dir)
    paths = [ROOT / name for name in AT_THE_TOP]
    own = [file for file in files if file.src_dir == config.docs_dir]
    paths += [docs / file.src_uri for file in own if not file.src_uri.startswith("site/")]
    paths += [path for path in (ROOT / "configs").rglob("*") if path.suffix in {".md", ".yml"}]
    mirrored = [file for file in files if file not in own]
    mirrored += [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)
        for path in paths
    ]
    sources = sorted((ROOT / "configs").rglob("*.py"))
    mirrored += [generated(path, source_page(path), config) for path in sources]
    folders = {
        folder for path in sources for folder in path.parents if folder.is_relative_to(ROOT / "configs")
    }
    for folder in {*folders, docs / "results"}:
        if not (folder / "README.md").exists():
            mirrored.append(generated(folder / "README.md", list_of_files(folder), config))
    return Files(mirrored)


def generated(path: Path, text: str, config: MkDocsConfig) -> File:
    """A page in place of the file at ``path``, left out of the search."""
    page = path.relative_to(ROOT).with_suffix(".md").as_posix()
    return File.generated(config, page, content=UNSEARCHED + text)


def source_page(path: Path) -> str:
    """The text of a config."""
    title = path.relative_to(ROOT).as_posix()
    return f'# {path.stem}\n\n```python title="{title}"\n{path.read_text()}```\n'


def list_of_files(folder: Path) -> str:
    """Links to what is in ``folder``."""
    inside = sorted(folder.iterdir(), key=lambda path: (path.is_file(), path.name))
    inside = [path for path in inside if path.is_dir() or path.suffix in {".json", ".py", ".yml"}]
    inside = [path for path in inside if path.name != "__pycache__"]
    lines = [f"- [{path.name}]({path.name})" for path in inside]
    return "\n".join([f"# {folder.relative_to(ROOT).as_posix()}", "", *lines, ""])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to configs and folders lead to their pages; ``::: package.*`` documents every module there."""
    folder = (ROOT / page.file.src_uri).parent

    def to_page(link: re.Match) -> str:
        target = (folder / link[1]).resolve()
        if target.suffix == ".py" and target.is_relative_to(ROOT / "configs"):
            return link[1].removesuffix(".py") + ".md"
        if target.is_dir():
            return link[1].rstrip("/") + "/README.md"
        return link[1]

    return PACKAGE.sub(lambda match: "\n".join(modules(match[1])), LINK.sub(to_page, markdown))


def modules(package: str) -> list[str]:
    """A line of mkdocstrings for each public module in ``package``."""
    folder = ROOT.joinpath(*package.split("."))
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return [f"::: {package}.{name}\n" for name in names]
