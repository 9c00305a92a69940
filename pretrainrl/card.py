"""The base of all cards: a frozen record that is read from TOML, and refuses what it does not know."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from pretrainrl.errors import CardError
from pretrainrl.paths import atomic_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CardT = TypeVar("CardT", bound="Card")
Scalar = str | int | float | bool
NUMBERS = re.compile(r"\[\n((?:    [\w.+\-]+,\n)+)\]")  # an array of them; tomli_w gives every item a line of its own


class Card(BaseModel):
    """A frozen record read from TOML: unknown, missing and mistyped fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls: type[CardT], table: dict[str, Any], where: str) -> CardT:
        """Validate `table`; `where` says in errors where it comes from.

        Raises:
            CardError: When fields are wrong; the message names every one.
        """
        try:
            return cls.model_validate_json(json.dumps(table))  # JSON, because strict mode then takes lists for tuples
        except ValidationError as error:
            raise CardError(f"{where}: {'; '.join(_describe(cls, detail) for detail in error.errors())}") from error
        except TypeError as error:  # TOML dates have no JSON form and no field here
            raise CardError(f"{where}: {error}") from error

    @classmethod
    def read(cls: type[CardT], path: Path) -> CardT:
        """Read a card from a TOML file.

        Raises:
            CardError: When the file is missing, is not TOML, or has a field that is wrong.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CardError(f"no card at {path}: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CardError(f"{path} is not a TOML file: {error}") from error
        return cls.parse(table, str(path))

    def write(self, path: Path) -> None:
        """Write the card as TOML, leaving out what is empty."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_toml(), encoding="utf-8")

    def to_toml(self) -> str:
        """Return the card as TOML, arrays of numbers on one line."""
        table = {key: value for key, value in self.model_dump(mode="json", exclude_none=True).items() if value not in ({}, [])}
        return NUMBERS.sub(lambda array: f"[{', '.join(array[1].replace(',', ' ').split())}]", tomli_w.dumps(table))


def _describe(card: type[Card], detail: Any) -> str:
    """Return one clause for one of pydantic's error records."""
    field = ".".join(map(str, detail["loc"])) or "card"
    if detail["type"] == "missing":
        return f"field {field!r} is missing"
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), card.model_fields, n=1)
        return f"unknown field {field!r}" + (f", did you mean {near[0]!r}?" if near else "")
    return f"field {field!r}: {detail['msg']}, got {detail['input']!r}"
