"""Docstrings name code as ``:func:`attn_mm.layers.flow```; the site makes links of these."""

import logging
import re

import griffe

logger = logging.getLogger("mkdocs.plugins.attn_mm.roles")
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """Each name is looked up, so that a strict build fails where a docstring names what is not there."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_) -> None:
        self._link(pkg)

    def _link(self, holder: griffe.Module | griffe.Class) -> None:
        self._rewrite(holder)
        for member in holder.members.values():
            if member.is_alias:
                continue
            if isinstance(member, griffe.Module | griffe.Class):
                self._link(member)
            else:
                self._rewrite(member)

    def _rewrite(self, thing: griffe.Object) -> None:
        if thing.docstring:
            text = thing.docstring.value
            thing.docstring.value = ROLE.sub(lambda role: self._reference(thing, role[2], role[1]), text)

    def _reference(self, thing: griffe.Object, name: str, short: str) -> str:
        text = name.rpartition(".")[2] if short else name
        if self._is_of_another_package(thing, name):
            return f"`{text}`"
        path = self._find(thing, name)
        if path is None:
            logger.warning("%s: its docstring names `%s`, which is not there", thing.path, name)
            return f"`{text}`"
        return f'<autoref identifier="{path}" optional><code>{text}</code></autoref>'

    def _is_of_another_package(self, thing: griffe.Object, name: str) -> bool:
        first = name.split(".")[0]
        imported = thing.module.members.get(first)
        if imported is not None and imported.is_alias:
            return imported.target_path.split(".")[0] != thing.package.path
        return "." in name and imported is None and first != thing.package.path

    def _find(self, thing: griffe.Object, name: str) -> str | None:
        """The full path of ``name`` as seen from ``thing``: from its own members outwards, then absolute."""
        package = thing.package
        scope: griffe.Object | None = thing
        candidates = []
        while scope is not None:
            candidates.append((scope, name))
            scope = scope.parent
        if name.startswith(f"{package.path}."):
            candidates = [(package, name.removeprefix(f"{package.path}."))]
        for scope, path in candidates:
            try:
                found = scope[path]
                return found.final_target.path if found.is_alias else found.path
            except (KeyError, griffe.AliasResolutionError):
                continue
        return None
