"""One class for every list of names: encoders, backbones, objectives.

A name comes from a TOML card shipped with the package, from an entry point of an installed package, or from `register`.
Listing reads cards only: nothing heavy is imported until an item is made.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pretrainrl.errors import InputError, PluginError, UnknownNameError
from pretrainrl.paths import registry_folder

T = TypeVar("T")
_code_may_be_named = ContextVar("_code_may_be_named", default=False)


@contextmanager
def installed_code() -> Iterator[None]:
    """Let cards that are read from files name code, because what reads them is installed: this package, or an entry point."""
    token = _code_may_be_named.set(True)
    try:
        yield
    finally:
        _code_may_be_named.reset(token)


def files_may_name_code() -> bool:
    """Return whether what reads cards now is installed code, so that the cards are a part of it."""
    return _code_may_be_named.get()


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
        self._broken: dict[str, str] = {}

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names of items of which the name or the alias matches the shell-style `pattern`, sorted, each once."""
        known = {*self._discovered(), *self._plugins}
        known_as = [*((name, name) for name in known), *self._aliases.items()]
        return sorted({name for word, name in known_as if fnmatchcase(word, pattern)})

    def items(self, pattern: str = "*") -> list[T]:
        """Return the items of which the name or the alias matches the shell-style `pattern`, sorted by name."""
        return list(self.by_name(pattern).values())

    def by_name(self, pattern: str = "*") -> dict[str, T]:
        """Return what `items` does by name. A plugin that fails to load is left out, with one warning that names it."""
        found: dict[str, T] = {}
        for name in self.names(pattern):
            known = name in self._broken
            try:
                found[name] = self.get(name)
            except PluginError as error:
                if not known:
                    warnings.warn(str(error), stacklevel=3)
        return found

    def __contains__(self, name: str) -> bool:
        """Return whether an item has the name or alias `name`, without loading a plugin."""
        return name in self._discovered() or name in self._aliases or name in self._plugins

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
            PluginError: When it is of an entry point that cannot be loaded.
        """
        items = self._discovered()
        if name not in items and name not in self._aliases:
            # An alias is the first part of a name; that of a plugin is known once the plugin is loaded.
            for plugin in [each for each in self._plugins if each == name or each.startswith(f"{name}.")]:
                self._add(plugin, self._load_plugin(plugin), replace=False)
                del self._plugins[plugin]
        name = self._aliases.get(name, name)
        if name not in items:
            raise UnknownNameError.of(self.kind, name, [*self.names(), *self._aliases])
        return items[name]

    def _load_plugin(self, name: str) -> T:
        """Return the item of an entry point; one that has failed is not tried again."""
        plugin = self._plugins[name]
        if name not in self._broken:
            try:
                with installed_code():
                    found = plugin.load()
                    item: T = found() if callable(found) else found
                card = getattr(self._load, "__self__", object)  # the class whose `read` it is
                if not isinstance(card, type) or isinstance(item, card):
                    return item
                self._broken[name] = f"it gives {item!r}, which is no {card.__name__}"
            except (Exception, SystemExit) as error:  # it is somebody else's code
                self._broken[name] = f"{type(error).__name__}: {error}"
        source = f"{plugin.value} of {plugin.dist.name}" if plugin.dist else plugin.value
        raise PluginError(f"{self.kind} {name!r}, the entry point {source}, cannot be loaded: {self._broken[name]}")

    def _add(self, name: str, item: T, *, replace: bool = True) -> None:
        assert self._items is not None
        self._items[name] = item
        alias = self._alias(item)
        if alias is not None and (replace or alias not in self._aliases):
            self._aliases[alias] = name

    def _discovered(self) -> dict[str, T]:
        if self._items is None:
            self._items = {}
            with installed_code():
                for path in sorted((registry_folder() / f"{self.kind}s").glob("*.toml")):
                    self._add(path.stem, self._load(path))
            plugins: Iterable[EntryPoint] = entry_points(group=self._group) if self._group else ()
            self._plugins = {plugin.name: plugin for plugin in plugins if plugin.name not in self._items}
        return self._items


def import_target(target: str, base: type = object) -> Any:
    """Import the class that `package.module:Class` names.

    Args:
        target: Name of the class. It comes from a registered card or a caller, never from a file that users are given.
        base: Class that it must be derived from.

    Raises:
        InputError: When the target is malformed, cannot be imported, or is something else.
    """
    module, _, attribute = target.partition(":")
    if not attribute:
        raise InputError(f"target {target!r} is not of the form 'package.module:Class'")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # a relative or an empty name
        raise InputError(f"target {target!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(f"target {target!r} is no class derived from {base.__name__}")
    return found
