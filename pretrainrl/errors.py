"""Errors that a user can cause and mend; the command line prints them as one line and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PretrainRLError(Exception):
    """Base of every error that names a mistake in the input rather than in the program."""


class InputError(PretrainRLError, ValueError):
    """An argument, observation or file content is not what was expected."""


class UnknownNameError(PretrainRLError, LookupError):
    """A name is not registered; the message gives the nearest ones."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Build the error for `name`, suggesting what is near among `known`."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names) or 'none'}"
        return cls(f"unknown {kind} {name!r}; {hint}")


class PluginError(PretrainRLError, ImportError):
    """An entry point of an installed package cannot be loaded."""


class CardError(PretrainRLError, ValueError):
    """A card has a missing, unknown or mistyped field."""


class WeightsError(PretrainRLError, RuntimeError):
    """Weights could not be found, are damaged, or do not fit the backbone."""


class DatasetError(PretrainRLError, RuntimeError):
    """A dataset or a frame cache is missing, damaged or does not fit."""


class MissingExtraError(PretrainRLError, ImportError):
    """An optional dependency is not installed; the message is the line that installs it."""
