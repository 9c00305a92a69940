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
        kind: Word for an item in messages; its plural is the folder of cards, e.g. `encoder` -> `registry/encoders`.
        load: Function that turns a card's path into an item.
        group: Entry-point group whose members are an item, or a function without arguments that returns one.
        alias: Function that gives the second, shorter name of an item, or None.
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
        self._aliases: dict[str, str] = {}
        self._plugins: dict[str, EntryPoint] = {}

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names of items of which the name or the alias matches the shell-style `pattern`, sorted, each once."""
        known = {*self._discovered(), *self._plugins}
        known_as = [*((name, name) for name in known), *self._aliases.items()]
        return sorted({name for word, name in known_as if fnmatchcase(word, pattern)})

    def items(self, pattern: str = "*") -> list[T]:
        """Return the items of which the name or the alias matches the shell-style `pattern`, sorted by name."""
        return [self.get(name) for name in self.names(pattern)]

    def register(self, name: str, item: T) -> None:
        """Add `item` under `name` and its alias; what is replaced by it is warned of."""
        items, alias = self._discovered(), self._alias(item)
        if items.get(name, item) != item:
            warnings.warn(f"{self.kind} {name!r} is registered already and is now replaced", stacklevel=3)
        if alias is not None and self._aliases.get(alias, name) != name:
            was = self._aliases[alias]
            warnings.warn(f"{self.kind} {alias!r} stood for {was!r} and now stands for {name!r}", stacklevel=3)
        self._add(name, item)

    def get(self, name: str) -> T:
        """Return the item with the name or alias `name`.

        Raises:
            UnknownNameError: When there is none; the message gives the nearest names.
        """
        items = self._discovered()
        if name not in items and name not in self._aliases:
            # An alias is the first part of a name; that of a plugin is known once the plugin is loaded.
            for plugin in [each for each in self._plugins if each == name or each.startswith(f"{name}.")]:
                loaded = self._plugins[plugin].load()
                self._add(plugin, loaded() if callable(loaded) else loaded)
                del self._plugins[plugin]
        name = self._aliases.get(name, name)
        if name not in items:
            raise UnknownNameError.of(self.kind, name, [*self.names(), *self._aliases])
        return items[name]

    def _add(self, name: str, item: T) -> None:
        assert self._items is not None
        self._items[name] = item
        alias = self._alias(item)
        if alias is not None:
            self._aliases[alias] = name

    def _discovered(self) -> dict[str, T]:
        if self._items is None:
            self._items = {}
            for path in sorted((registry_folder() / f"{self.kind}s").glob("*.toml")):
                self._add(path.stem, self._load(path))
            plugins: Iterable[EntryPoint] = entry_points(group=self._group) if self._group else ()
            self._plugins = {plugin.name: plugin for plugin in plugins if plugin.name not in self._items}
        return self._items


def import_target(target: str) -> Any:
    """Import the object that `package.module:attribute` names.

    Raises:
        InputError: When the target is malformed or cannot be imported.
    """
    module, _, attribute = target.partition(":")
    if not attribute:
        raise InputError(f"target {target!r} is not of the form 'package.module:attribute'")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"target {target!r} cannot be imported: {error}") from error
