"""What all cards have in common: how they are read from TOML, which is data and cannot run code, and written."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from pretrainrl.errors import CardError
from pretrainrl.paths import atomic_path
from pretrainrl.registry import files_may_name_code

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CardT = TypeVar("CardT", bound="Card")
NUMBERS = re.compile(r"\[\n((?:    [\w.+\-]+,\n)+)\]")  # an array of them; tomli_w gives every item a line of its own
MAX_BYTES = 1 << 20  # of a card's file


def _registered(value: str, info: ValidationInfo) -> str:
    """Refuse a class where data name what is registered: `module:Class` is for calls, and for cards of installed packages."""
    if ":" in value and info.context is not None and not files_may_name_code():
        raise ValueError("names code, which data cannot; register it in Python, and give the registered name")
    return value


def _not_from_file(value: str, info: ValidationInfo) -> str:
    """Refuse a class that is named by a file, unless that is a part of an installed package."""
    if info.context is not None and info.context["file"] and not files_may_name_code():
        raise ValueError("names code, which a file cannot; register the card in Python, or by an entry point")
    return value


def _no_way_out(source: str) -> str:
    """Refuse a source that leads out of the folder of the card, or of the bundled files."""
    path = source.removeprefix("bundled:").removeprefix("hf://")
    parts = PurePosixPath(path.replace("\\", "/"))
    if ".." in parts.parts or (source.startswith("bundled:") and parts.is_absolute()):
        raise ValueError("leads out of its folder")
    if not source.isprintable():
        raise ValueError("has characters that cannot be printed")
    return source


RegisteredName = Annotated[str, AfterValidator(_registered)]  # in calls also `package.module:Class`
Target = Annotated[str, AfterValidator(_not_from_file)]  # `package.module:Class`
Source = Annotated[str, AfterValidator(_no_way_out)]  # of a file


class Card(BaseModel):
    """A frozen record read from TOML: unknown, missing and mistyped fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls: type[CardT], table: dict[str, Any], where: str, *, file: bool = False) -> CardT:
        """Validate `table`; `where` says in errors where it comes from, and `file` that it is a file.

        Raises:
            CardError: When fields are wrong; the message names every one.
        """
        try:  # JSON, because strict mode then takes lists for tuples
            return cls.model_validate_json(json.dumps(table), context={"file": file})
        except ValidationError as error:
            raise CardError(f"{where}: {'; '.join(_describe(cls, detail) for detail in error.errors())}") from error
        except (TypeError, ValueError) as error:  # TOML dates have no JSON form and no field here
            raise CardError(f"{where}: {error}") from error
        except RecursionError as error:
            raise CardError(f"{where} is nested too deeply") from error

    @classmethod
    def read(cls: type[CardT], path: Path) -> CardT:
        """Read a card from a TOML file.

        Raises:
            CardError: When the file is missing, is not TOML, or has a field that is wrong.
        """
        try:
            table = tomllib.loads(_content(path).decode())
        except OSError as error:
            raise CardError(f"no card at {path}: {error.strerror or error}") from error
        except CardError:
            raise
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, too, and arrays in arrays in arrays
            raise CardError(f"{path} is not a TOML file that can be read: {error}") from error
        return cls.parse(table, str(path), file=True)

    def write(self, path: Path) -> None:
        """Write the card as TOML, leaving out what is empty."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_toml(), encoding="utf-8")

    def to_toml(self) -> str:
        """Return the card as TOML, arrays of numbers on one line."""
        table = {key: value for key, value in self.model_dump(mode="json", exclude_none=True).items() if value not in ({}, [])}
        return NUMBERS.sub(lambda array: f"[{', '.join(array[1].replace(',', ' ').split())}]", tomli_w.dumps(table))


class Initial(Card):
    """What training began from.

    Attributes:
        name: Name of the encoder.
        sha256: Digest of the encoder's weights, 64 hex digits.
        objective_sha256: Digest of the file of the whole objective, with its heads; None where the encoder alone is taken.
    """

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    objective_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class Paper(Card):
    """Where a method was published."""

    title: str
    url: str


def _content(path: Path) -> bytes:
    """Read a file of a card's size."""
    if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
        raise CardError(f"no card at {path}: it is not a file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CardError(f"{path} is not a card: it has more than {MAX_BYTES:,} bytes")
    return content


def _describe(card: type[Card], detail: Any) -> str:
    """Return one clause for one of pydantic's error records."""
    field = ".".join(map(str, detail["loc"])) or "card"
    if detail["type"] == "missing":
        return f"field {field!r} is missing"
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), card.model_fields, n=1)
        return f"unknown field {field!r}" + (f", did you mean {near[0]!r}?" if near else "")
    given = repr(detail["input"])
    return f"field {field!r}: {detail['msg']}, got {given if len(given) <= 200 else given[:200] + '...'}"
