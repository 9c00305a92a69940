"""Damage and malice to order: what a seed does to bytes, to TOML, to JSON and to single values."""

import json
import math
import re
from random import Random
from typing import Any

HOSTILE_TEXT = (
    "",
    " ",
    "../../outside",
    "/etc/passwd",
    "~nosuchuser/x",
    "nul\0byte",
    "two\nlines",
    "x[/a]",
    "[red]x[/red]",
    "a" * 300,
    "$(touch outside)",
    "os:system",
    "antigravity:geohash",
    "subprocess:Popen",
    "builtins:exec",
    "torch.nn:Linear",
    "{game}{0.__class__}",
    "%s%n",
    "\U0001f40d\u202e",
    "hf://nobody/nothing/x@main",
    "bundled:../../../etc/passwd",
    "atari-pb:/dev/zero",
    "/dev/zero",
    "nan",
    "-1",
)
HOSTILE_NUMBERS = (
    0,
    -1,
    1,
    255,
    256,
    2**31,
    2**32,
    -(2**63),
    2**63,
    2**64,
    20_000_000_000,
    10**40,
    10**400,
    0.0,
    -0.5,
    1e-300,
    1e300,
    math.nan,
    math.inf,
    -math.inf,
)
HOSTILE_TOML = (
    "nan",
    "-inf",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "[" * 5000,
    "[" * 200 + "]" * 200,
    "{a = {b = {c = 1}}}",
    '"""\nlines\n"""',
    "'\\u0000'",
    "9" * 5000,
    "1e999",
    "true",
    "[]",
    "[[1], ['a'], {}]",
    "{}",
)
DEEP = 20_000
_ASSIGNMENT = re.compile(r"^([\w.\"-]+) = (.*)$", re.MULTILINE)


def damage(rng: Random, content: bytes) -> bytes:
    """Change bytes as disks, networks and attackers do: one change mostly, sometimes several."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        content = rng.choice(_DAMAGES)(rng, content)
    return content


def _flip(rng: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 16)) if changed else 0):
        changed[_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: Random, content: bytes) -> bytes:
    return content[: rng.choice((0, 1, _place(rng, content), _place(rng, content), max(0, len(content) - 1)))]


def _insert(rng: Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + rng.randbytes(rng.choice((1, 4, 100))) + content[at:]


def _remove(rng: Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.choice((1, 4, 100)) :]


def _zero(rng: Random, content: bytes) -> bytes:
    at, size = _place(rng, content), rng.choice((1, 4, 64, 4096))
    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]


def _fill(rng: Random, content: bytes) -> bytes:
    """Overwrite a field of 1 to 8 bytes with a number that programs do not expect."""
    at, size = _place(rng, content), rng.choice((1, 2, 4, 8))
    number = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, 2 ** (4 * size)))
    field = number.to_bytes(size, rng.choice(("little", "big")))
    return content[:at] + field[: len(content) - at] + content[at + size :]


def _swap(rng: Random, content: bytes) -> bytes:
    size = rng.choice((1, 8, 512))
    first, second = sorted((_place(rng, content), _place(rng, content)))
    if first + size > second or second + size > len(content):
        return _flip(rng, content)
    one, other = content[first : first + size], content[second : second + size]
    return content[:first] + other + content[first + size : second] + one + content[second + size :]


def _repeat(rng: Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at : at + rng.choice((16, 1000))] + content[at:]


def _grow(rng: Random, content: bytes) -> bytes:
    return content + rng.choice((b"\0", b"\n", content, rng.randbytes(1000), bytes(5000)))


def _replace(rng: Random, content: bytes) -> bytes:
    return rng.choice((b"", b"<!doctype html>\n<title>404</title>", b"\0" * len(content), rng.randbytes(len(content) or 1)))


def _place(rng: Random, content: bytes) -> int:
    """Choose an offset; headers and ends are chosen more often than their length would have it."""
    size = max(1, len(content))
    return rng.choice((rng.randrange(size), rng.randrange(min(size, 256)), size - 1 - rng.randrange(min(size, 256))))


_DAMAGES = (_flip, _flip, _flip, _truncate, _insert, _remove, _zero, _fill, _fill, _swap, _repeat, _grow, _replace)


def hostile_value(rng: Random, value: Any = None) -> Any:
    """Return a value of any type, often of the type of `value`, that a careless reader does not expect."""
    if isinstance(value, str) and rng.random() < 0.5:
        return rng.choice(HOSTILE_TEXT)
    if isinstance(value, (int, float)) and rng.random() < 0.5:
        return rng.choice(HOSTILE_NUMBERS)
    return rng.choice(
        (None, True, False, [], {}, [[]], {"": ""}, [1, "a"], rng.choice(HOSTILE_TEXT), rng.choice(HOSTILE_NUMBERS))
    )


def hostile_tree(rng: Random, tree: Any) -> Any:
    """Change, remove, rename or add one entry somewhere in a tree of dicts and lists, in a copy."""
    if not isinstance(tree, (dict, list)) or not tree or rng.random() < 0.1:
        return hostile_value(rng, tree)
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    key = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
    action = rng.choice(("change", "change", "change", "remove", "rename", "add"))
    if action == "change":
        copy[key] = hostile_tree(rng, copy[key])
    elif action == "remove":
        del copy[key]
    elif isinstance(copy, dict):
        name = rng.choice((f"{key}s", "__class__", "", "extra"))
        copy[name] = copy.pop(key) if action == "rename" else hostile_value(rng)
    else:
        copy += [hostile_value(rng)] * rng.choice((1, 1, 1000))
    return copy


def hostile_json(rng: Random, text: str) -> str:
    """Change a JSON text in one of its values, in its nesting, or as any text."""
    draw = rng.random()
    if draw < 0.8:
        return json.dumps(hostile_tree(rng, json.loads(text)))
    if draw < 0.85:
        return rng.choice(("[" * DEEP, '{"a":' * DEEP, "9" * 5000, '"' + "\\u0000" * 10 + '"', "NaN", "null", "[]", "{}"))
    return damage(rng, text.encode()).decode("utf-8", "replace")


def hostile_toml(rng: Random, text: str) -> str:
    """Change a TOML text in one of its values, or as any text."""
    places = list(_ASSIGNMENT.finditer(text))
    if not places or rng.random() < 0.15:
        return damage(rng, text.encode()).decode("utf-8", "replace")
    for place in rng.sample(places, min(len(places), rng.choice((1, 1, 1, 2)))):
        name, value = place.group(1), place.group(2)
        choice = rng.choice(("text", "text", "number", "toml", "remove", "rename", "double"))
        line = {
            "text": f"{name} = {json.dumps(rng.choice(HOSTILE_TEXT))}",
            "number": f"{name} = {rng.choice(HOSTILE_NUMBERS)}",
            "toml": f"{name} = {rng.choice(HOSTILE_TOML)}",
            "remove": "",
            "rename": f"{rng.choice(('__class__', 'extra', 'a.b.c'))} = {value}",
            "double": f"{name} = {value}\n{name} = {value}",
        }[choice]
        text = text.replace(place.group(0), line, 1)
    return text
