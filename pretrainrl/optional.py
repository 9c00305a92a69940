"""Optional dependencies: imported when used, and a missing one names the line that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

from pretrainrl.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the extra `extra` installs.

    Raises:
        MissingExtraError: When it, or something that it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f'{error.name or module} is not installed; run: pip install "pretrainrl[{extra}]"') from error
