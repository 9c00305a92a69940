"""One class for every list of names: encoders, backbones, objectives.

A name comes from a TOML card shipped with the package, from an entry point of an installed package, or from `register`.
Listing reads cards only: nothing heavy is imported until an item is made.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.paths import registry_folder

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind and what they stand for.

    Args:
        kind: what an item is called in messages; its plural is the folder of cards, e.g. `encoder` -> `registry/encoders`.
        load: turns a card's path into an item.
        group: entry-point group whose members are an item, or a function without arguments that returns one.
        alias: a second, shorter name of an item, or None.
    """

    def __init__(
        self,
        kind: str,
        load: Callable[[Path], T],
        *,
        group: str | None = None,
        alias: Callable[[T], str | None] = lambda item: None,
    ) -> None:
        self.kind = kind
        self._load = load
        self._group = group
        self._alias = alias
        self._items: dict[str, T] | None = None
        self._plugins: dict[str, EntryPoint] = {}

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names that match the shell-style `pattern`, sorted."""
        known = {*self._discovered(), *self._plugins}
        return sorted(name for name in known if fnmatchcase(name, pattern))

    def items(self, pattern: str = "*") -> list[T]:
        """Return each item that has a matching name once, sorted by that name."""
        unique = {id(item): item for item in map(self.get, self.names(pattern))}
        return list(unique.values())

    def register(self, name: str, item: T) -> None:
        """Add `item` under `name` and its alias; an item that is there already is replaced with a warning."""
        items = self._discovered()
        for key in filter(None, (name, self._alias(item))):
            if key in items and items[key] != item:
                warnings.warn(f"{self.kind} {key!r} is registered already and is now replaced", stacklevel=3)
            items[key] = item

    def get(self, name: str) -> T:
        """Return the item called `name`.

        Raises:
            UnknownNameError: with the nearest names.
        """
        items = self._discovered()
        if name not in items and name in self._plugins:
            loaded = self._plugins[name].load()
            items[name] = loaded() if callable(loaded) else loaded
        if name not in items:
            raise UnknownNameError.of(self.kind, name, self.names())
        return items[name]

    def _discovered(self) -> dict[str, T]:
        if self._items is None:
            self._items = {}
            for path in sorted((registry_folder() / f"{self.kind}s").glob("*.toml")):
                item = self._load(path)
                for key in filter(None, (path.stem, self._alias(item))):
                    self._items[key] = item
            plugins: Iterable[EntryPoint] = entry_points(group=self._group) if self._group else ()
            self._plugins = {plugin.name: plugin for plugin in plugins if plugin.name not in self._items}
        return self._items


def import_target(target: str) -> Any:
    """Import the object that `package.module:attribute` names.

    Raises:
        InputError: when the target is malformed or cannot be imported.
    """
    module, _, attribute = target.partition(":")
    if not attribute:
        raise InputError(f"target {target!r} is not of the form 'package.module:attribute'")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"target {target!r} cannot be imported: {error}") from error
