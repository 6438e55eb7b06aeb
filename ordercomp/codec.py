"""Codec: plain data, as JSON and TOML files hold it, to frozen dataclasses and back, by their annotations.

A field with the metadata REST keeps what no other field takes; a dataclass without one refuses unknown keys.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

__all__ = ["REST", "Number", "decode", "encode", "parse_json", "parse_toml", "read_json"]

Number = int | float  # stays what it was: 3 is not written back as 3.0
REST: Mapping[str, bool] = {"rest": True}

T = TypeVar("T")

_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a table",
}
_EXPECTED = re.compile(r"Expected `(?P<kinds>[^`]*)`")
_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")


def parse_json(text: bytes) -> Any:
    """The value that JSON text in UTF-8 stands for.

    Raises ValueError for what is no JSON, for NaN, Infinity and numbers beyond all floats, for integers of
    thousands of digits, and for brackets nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_slowly(text)  # knows the column, and which key is not finite


def parse_toml(text: str) -> dict[str, Any]:
    """The table that a TOML text stands for.

    Raises ValueError for what is no TOML, for brackets nested too deeply, and for integers beyond 64 bits,
    which TOML does not promise.
    """
    try:
        data = tomllib.loads(text)
        path = _first(lambda one: type(one) is int and not -(2**63) <= one < 2**63, data)
    except RecursionError:
        raise ValueError("no valid TOML: nested too deeply") from None
    except ValueError as error:  # no TOML, or an integer of thousands of digits
        raise ValueError(f"no valid TOML: {str(error).partition(';')[0]}") from None
    if path is not None:
        raise ValueError(f"no valid TOML: key {path!r} holds an integer beyond 64 bits")
    return data


def read_json(path: Path) -> Any:
    """The value that a JSON file holds. Raises ValueError as `parse_json` does, naming the file; OSError."""
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def decode(data: object, kind: type[T], what: str) -> T:
    """Build a `kind` from plain data. `what` names it in errors.

    Raises ValueError naming the key, what was expected and what came, for a key that is missing, unknown or
    of the wrong kind; what `kind` itself raises, passes.
    """
    gathered = _gather(data, kind, what)
    try:
        return msgspec.convert(gathered, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise ValueError(_told(str(error), gathered, kind, what)) from None
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None


def encode(value: Any) -> Any:
    """The plain data of a dataclass, mapping or list, in the order of the fields, unknown keys last."""
    if is_dataclass(value) and not isinstance(value, type):
        rest = _rest_field(type(value))
        known = {one.name: encode(getattr(value, one.name)) for one in fields(value) if one.name != rest}
        return known if rest is None else {**known, **getattr(value, rest)}
    if isinstance(value, Mapping):
        return {key: encode(inner) for key, inner in value.items()}
    return [encode(inner) for inner in value] if isinstance(value, list | tuple) else value


def _parse_slowly(text: bytes) -> Any:
    try:
        data = json.loads(text.decode("utf-8"))
        path = _first(lambda one: isinstance(one, float) and not math.isfinite(one), data)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON at column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON: {str(error).partition(';')[0]}") from None
    if path is not None:
        raise ValueError(f"key {path!r} must be finite, got {_value_at(data, path)}")
    return data


def _first(wrong: Callable[[Any], bool], data: Any, path: str = "") -> str | None:
    """Where the first value stands that is `wrong`."""
    if wrong(data):
        return path
    items: Any = ()
    if isinstance(data, dict):
        items = ((f"{path}.{key}".lstrip("."), inner) for key, inner in data.items())
    elif isinstance(data, list):
        items = ((f"{path}[{place}]", inner) for place, inner in enumerate(data))
    return next((found for at, inner in items if (found := _first(wrong, inner, at)) is not None), None)


def _gather(data: object, kind: Any, what: str) -> Any:
    """The data with unknown keys moved to the field for the rest, in nested dataclasses, too."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{what} must be a table of settings, got {_short(data)}")
    inner, required, rest = _shape(kind), _required(kind), _rest_field(kind)
    gathered: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for key, value in data.items():
        if key not in inner or key == rest:
            unknown[key] = value
        elif (nested := inner[key]) is None:
            gathered[key] = value
        elif isinstance(value, list | tuple) and nested[1]:
            gathered[key] = [_gather(one, nested[0], f"{what} {key}[{at}]") for at, one in enumerate(value)]
        elif value is not None and not nested[1]:
            gathered[key] = _gather(value, nested[0], f"{what} {key}")
        else:
            gathered[key] = value
    if unknown and rest is None:
        known = ", ".join(inner)
        raise ValueError(f"{what} has no setting {next(iter(unknown))!r}; its settings are: {known}")
    for key in required:
        if key not in gathered:
            raise ValueError(f"{what} lacks the key {key!r}")
    return gathered if rest is None else {**gathered, rest: unknown}


@cache
def _shape(kind: Any) -> dict[str, tuple[Any, bool] | None]:
    """Each field, with the dataclass inside it and whether it holds a list of them."""
    hints = get_type_hints(kind)
    return {one.name: _nested(hints[one.name]) for one in fields(kind) if one.init}


def _nested(hint: Any) -> tuple[Any, bool] | None:
    if is_dataclass(hint):
        return hint, False
    for inner in get_args(hint):
        if is_dataclass(inner):
            return inner, get_origin(hint) is tuple
    return None


@cache
def _required(kind: Any) -> tuple[str, ...]:
    return tuple(
        one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING
    )


@cache
def _rest_field(kind: Any) -> str | None:
    return next((one.name for one in fields(kind) if one.metadata.get("rest")), None)


def _told(problem: str, data: Any, kind: Any, what: str) -> str:
    """The library's message in our words, with the value that came."""
    at = _PATH.search(problem)
    path = at["path"].lstrip(".") if at else ""
    expected = _EXPECTED.search(problem)
    hint = get_type_hints(kind).get(path.partition(".")[0].partition("[")[0])
    if get_origin(hint) is Literal:
        words = " or ".join(map(str, get_args(hint)))
    elif expected:
        words = " or ".join(_WORDS.get(one, one) for one in expected["kinds"].split(" | "))
    else:
        return f"{what} key {path!r}: {problem[: at.start() if at else None]}"
    shown = path.replace("[...]", ".…")
    return f"{what} key {shown!r} must be {words}, got {_short(_value_at(data, path))}"


def _value_at(data: Any, path: str) -> Any:
    """The value at a path; where a mapping's key is not told, as much of it as is."""
    for name, place in re.findall(r"([^.\[\]]+)(?=\.|\[|$)|\[(\d+|\.\.\.)\]", path):
        if place == "...":
            return data
        data = data[int(place)] if place else data[name]
    return data


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
