"""The packages of the wheel; all else is in pyproject.toml."""

from setuptools import find_packages, setup

# The configs travel inside the package: a top-level configs/ in site-packages would be taken for every
# framework's. They are no Python package, so nothing finds them but this line.
setup(
    packages=[*find_packages(include=["attn_mm", "attn_mm.*"]), "attn_mm.configs"],
    package_dir={"attn_mm": "attn_mm", "attn_mm.configs": "configs"},
)
