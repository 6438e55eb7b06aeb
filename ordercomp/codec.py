"""Codec: JSON and TOML to plain data, plain data to frozen dataclasses, and back.

How a frozen dataclass lies in a file, its fields and their metadata say (`layout_of`).
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from ordercomp.files import checksum_of, refuse_device, replace_file

Number = int | float  # stays what it was: 3 is not written back as 3.0
Plain = Mapping[str, Any]  # a table as a file holds it, of which nothing is known as yet, or which is free
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
_STEP = re.compile(r"([^.\[\]]+)(?=\.|\[|$)|\[(\d+|\.\.\.)\]")

_CHECKSUM = ',\n  "checksum": "'  # what stands between the content of a file and its checksum

REST: Mapping[str, object] = {"rest": True}
FLAT: Mapping[str, object] = {"flat": True}
OMITTED: Mapping[str, object] = {"omitted": True}
UNWRITTEN: Mapping[str, object] = {"unwritten": True}


def named(key: str) -> Mapping[str, object]:
    """Metadata of a field that files hold under another key."""
    return {"key": key}


@dataclass(frozen=True, slots=True)
class Item:
    """A key of a table: the attribute it holds, and what that is made of."""

    key: str
    attribute: str
    plan: "Plan" = None
    flat: bool = False
    omitted: bool = False
    default: Any = None


@dataclass(frozen=True)
class Layout:
    """How a dataclass lies in a file."""

    written: tuple[Item, ...]
    read: Mapping[str, Item]  # by key, those of flat parts left out
    parts: Mapping[str, tuple[str, Any]]  # field and kind of the flat part that has a key
    derived: frozenset[str]
    order: tuple[str, ...] | None  # of all keys, if it is not that of the fields
    required: tuple[str, ...]
    rest: str | None

    @cached_property
    def is_simple(self) -> bool:
        """Whether keys are the fields themselves, and no dataclass is inside."""
        named_alike = all(item.plan is None and key == item.attribute for key, item in self.read.items())
        return named_alike and not self.parts and not self.derived


# What a value is made of, as far as dataclasses are in it: one, a list of something, a table of something.
Plan = tuple[Literal["one", "list", "table"], Any] | None


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def layout_of(kind: Any) -> Layout:
    hints = get_type_hints(kind)
    items: dict[str, Item] = {}
    parts: dict[str, tuple[str, Any]] = {}
    rest, required = None, []
    for field in fields(kind):
        name, metadata, hint = field.name, field.metadata, hints[field.name]
        if metadata.get("rest"):
            rest = name
        elif metadata.get("flat"):
            items[name] = Item(name, name, flat=True)
            part = layout_of(hint)
            parts |= dict.fromkeys((*part.read, *part.parts, *part.derived), (name, hint))
        elif field.init and not metadata.get("unwritten"):
            key, omitted = metadata.get("key", name), bool(metadata.get("omitted"))
            items[key] = Item(key, name, plan_of(hint), omitted=omitted, default=_default(field))
            if field.default is MISSING and field.default_factory is MISSING:
                required.append(key)
    order: tuple[str, ...] | None = getattr(kind, "KEYS", None)
    every = {key for key, item in items.items() if not item.flat} | parts.keys()
    if order is not None and not every <= {*order}:
        raise TypeError(f"{kind.__name__}.KEYS lacks {', '.join(sorted(every - {*order}))}")
    derived = [key for key in order or () if key not in items and key not in parts]
    return Layout(
        written=(*items.values(), *(Item(key, key) for key in derived)),
        read={key: item for key, item in items.items() if not item.flat},
        parts=parts,
        derived=frozenset(derived),
        order=order,
        required=tuple(required),
        rest=rest,
    )


def plan_of(hint: Any) -> Plan:
    if is_dataclass(hint):
        return "one", hint
    origin = get_origin(hint)
    plan = next((plan for inner in get_args(hint) if (plan := plan_of(inner)) is not None), None)
    if plan is None:
        return None
    if origin in (tuple, list):
        return "list", plan
    return ("table", plan) if isinstance(origin, type) and issubclass(origin, Mapping) else plan


def dataclass_in(hint: Any) -> Any:
    """The dataclass that an annotation holds, at whatever depth; None without one."""
    if hint is None or is_dataclass(hint):
        return hint
    return next((kind for inner in get_args(hint) if (kind := dataclass_in(inner)) is not None), None)


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
        large = _first(lambda value: type(value) is int and not -(2**63) <= value < 2**63, data)
    except RecursionError:
        raise ValueError("no valid TOML: nested too deeply") from None
    except ValueError as error:  # no TOML, or an integer of thousands of digits
        raise ValueError(f"no valid TOML: {str(error).partition(';')[0]}") from None
    if large is not None:
        raise ValueError(f"no valid TOML: key {large[0]!r} holds an integer beyond 64 bits")
    return data


def write_json(path: Path, value: Any) -> None:
    """Write a dataclass or a table as indented JSON, at once; its last key is a checksum over all before it.

    Raises ValueError as `format_json` does; OSError.
    """
    text = format_json(value, indent=2).removesuffix("\n}\n")
    replace_file(path, f'{text}{_CHECKSUM}{checksum_of(text.encode())}"\n}}\n')


def read_json(path: Path) -> Any:
    """The value that a JSON file holds, whose checksum must be right if it has one, and is left out.

    Raises ValueError as `parse_json` does, naming the file; OSError.
    """
    refuse_device(path)
    try:
        return parse_json(_checked(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def decode(data: object, kind: type[T], what: str, *, strict: bool = True) -> T:
    """Build a `kind` from plain data. `what` names it in errors.

    Unknown keys of a dataclass without a field for the rest are an error if `strict`, else left out. Raises
    ValueError naming the key, what was expected and what came, for a key that is missing, unknown or of the
    wrong kind; what `kind` itself raises, passes.
    """
    try:
        gathered = _gather(data, kind, what, strict)
        return msgspec.convert(gathered, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise ValueError(_in_our_words(str(error), gathered, kind, what)) from None
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None


def read_as(path: Path, kind: type[T]) -> T:
    """Build a `kind` from a JSON file, leaving out unknown keys. Raises as `read_json` and `decode` do."""
    return decode(read_json(path), kind, str(path), strict=False)


def check(data: Mapping[str, Any], kind: type, what: str) -> None:
    """Raise ValueError, as `decode` does, unless a table holds what a TypedDict says; other keys are free."""
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_in_our_words(str(error), data, kind, what)) from None


def encode(value: Any) -> Any:
    """The plain data of a dataclass, mapping or list, unknown keys last."""
    if is_dataclass(value) and not isinstance(value, type):
        return _table(value)
    if isinstance(value, Mapping):
        return {key: encode(inner) for key, inner in value.items()}
    return [encode(inner) for inner in value] if isinstance(value, list | tuple) else value


def format_json(value: Any, *, indent: int | None = None, compact: bool = False) -> str:
    """The JSON text of a dataclass or of plain data: indented and with a line break at its end, or on a line.

    A `compact` line has no spaces between its parts.

    Raises ValueError for NaN, infinities and what is nested too deeply.
    """
    try:
        separators = (",", ":") if compact else None
        text = json.dumps(encode(value), indent=indent, separators=separators, allow_nan=False)
    except RecursionError:
        raise ValueError("value must be plain JSON, got values nested too deeply") from None
    return text if indent is None else f"{text}\n"


def _checked(text: bytes) -> bytes:
    """The text of a file without its checksum, if it has one. Raises ValueError unless that is right."""
    held, marker, checksum = text.rpartition(_CHECKSUM.encode())
    if not marker:
        return text
    if checksum.strip() != f'{checksum_of(held)}"\n}}'.encode():
        raise ValueError("its checksum says so, or it was changed by hand and should lose its last key")
    return held + b"\n}"


def _parse_slowly(text: bytes) -> Any:
    try:
        data = json.loads(text.decode("utf-8"))
        infinite = _first(lambda value: isinstance(value, float) and not math.isfinite(value), data)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON at column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON: {str(error).partition(';')[0]}") from None
    if infinite is not None:
        raise ValueError(f"key {infinite[0]!r} must be finite, got {infinite[1]}")
    return data


def _first(wrong: Callable[[Any], bool], data: Any, path: str = "") -> tuple[str, Any] | None:
    """Where the first value stands that is `wrong`, and the value."""
    if wrong(data):
        return path, data
    items: Any = ()
    if isinstance(data, dict):
        items = ((f"{path}.{key}".lstrip("."), inner) for key, inner in data.items())
    elif isinstance(data, list):
        items = ((f"{path}[{place}]", inner) for place, inner in enumerate(data))
    return next((place for at, inner in items if (place := _first(wrong, inner, at)) is not None), None)


def _table(value: Any) -> dict[str, Any]:
    kind: Any = type(value)
    layout = layout_of(kind)
    data: dict[str, Any] = {}
    for item in layout.written:
        inner = getattr(value, item.attribute)
        if item.omitted and inner == item.default:
            continue
        if item.flat:
            data.update(_table(inner))
        else:
            data[item.key] = encode(inner)
    if layout.order is not None:
        data = {key: data[key] for key in layout.order if key in data}
    return data if layout.rest is None else {**data, **getattr(value, layout.rest)}


def _gather(data: object, kind: Any, what: str, strict: bool) -> Any:
    """The data by fields instead of keys, unknown ones in the field for the rest, in nested parts, too."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{what} must be a table of settings, got {short_text(data)}")
    layout = layout_of(kind)
    gathered: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {field: {} for field, _ in layout.parts.values()}
    for key, value in data.items():
        if (item := layout.read.get(key)) is not None:
            plain = item.plan is None or value is None
            gathered[item.attribute] = value if plain else _fit(value, item.plan, f"{what} {key}", strict)
        elif key in layout.parts:
            parts[layout.parts[key][0]][key] = value
        elif key not in layout.derived:
            unknown[key] = value
    if unknown and layout.rest is None and strict:
        settings = ", ".join([*layout.read, *layout.parts])
        raise ValueError(f"{what} has no setting {next(iter(unknown))!r}; its settings are: {settings}")
    for key in layout.required:
        if layout.read[key].attribute not in gathered:
            raise ValueError(f"{what} lacks the key {key!r}")
    for field, part in layout.parts.values():
        if field not in gathered:
            gathered[field] = _gather(parts[field], part, what, strict)
    return gathered if layout.rest is None else {**gathered, layout.rest: unknown}


def _gather_alike(tables: Sequence[Any], layout: Layout) -> list[dict[str, Any]] | None:
    """What `_gather` makes of many tables of one simple kind; None where it would refuse one of them."""
    if not layout.is_simple or not all(type(data) is dict for data in tables):
        return None
    read, rest, required = layout.read, layout.rest, {*layout.required}
    gathered = [{key: value for key, value in data.items() if key in read} for data in tables]
    if not all(required <= table.keys() for table in gathered):
        return None
    if rest is not None:
        for table, data in zip(gathered, tables, strict=True):
            table[rest] = {key: value for key, value in data.items() if key not in read}
    return gathered if rest is not None or gathered == tables else None


def _fit(value: Any, plan: Plan, what: str, strict: bool) -> Any:
    """The value with the dataclasses in it gathered; what is of another kind stays, to be refused."""
    if plan is None or value is None:
        return value
    shape, inner = plan
    if shape == "one":
        return _gather(value, inner, what, strict)
    if shape == "list" and isinstance(value, list | tuple):
        if inner[0] == "one" and (quickly := _gather_alike(value, layout_of(inner[1]))) is not None:
            return quickly
        return [_fit(item, inner, f"{what}[{place}]", strict) for place, item in enumerate(value)]
    if shape == "table" and isinstance(value, Mapping):
        return {key: _fit(item, inner, f"{what} {key}", strict) for key, item in value.items()}
    return value


def _in_our_words(problem: str, data: Any, kind: Any, what: str) -> str:
    """The library's message in our words, with the value that came."""
    at = _PATH.search(problem)
    path = at["path"].lstrip(".") if at else ""
    shown, hint = _follow(path, kind)
    expected = _EXPECTED.search(problem)
    if get_origin(hint) is Literal:
        words = " or ".join(str(choice) for choice in get_args(hint) if choice != "")
    elif expected:
        kinds = expected["kinds"].split(" | ")
        words = " or ".join(_WORDS.get(word, word) for word in kinds if word != "int" or "float" not in kinds)
    else:
        return f"{what} key {shown!r}: {problem[: at.start() if at else None]}"
    return f"{what} key {shown!r} must be {words}, got {short_text(_value_at(data, path))}"


def _follow(path: str, kind: Any) -> tuple[str, Any]:
    """A path through fields as one through the keys of the file, and the annotation at its end."""
    shown, hint = "", kind
    for name, place in _STEP.findall(path):
        if place:
            shown += ".…" if place == "..." else f"[{place}]"
            hint = next((inner for inner in get_args(hint) if inner is not Ellipsis), None)
            continue
        table = dataclass_in(hint)
        items = {} if table is None else {item.attribute: item for item in layout_of(table).written}
        item = items.get(name)
        if item is None or not item.flat:
            shown += f".{name if item is None else item.key}"
        hint = None if table is None else get_type_hints(table).get(name)
    return shown.lstrip("."), hint


def _value_at(data: Any, path: str) -> Any:
    """The value at a path; where a mapping's key is not told, as much of it as is."""
    for name, place in _STEP.findall(path):
        if place == "...":
            return data
        data = data[int(place)] if place else data[name]
    return data


def differences(there: Any, now: Any, place: str = "") -> list[str]:
    """Where two plain values differ, innermost keys only, a line each: `points 3 cr: 2.0 there, 2.5 now`."""
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        keys = sorted({*there, *now})
        return [line for key in keys for line in differences(there.get(key), now.get(key), f"{place} {key}")]
    if isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
        pairs = enumerate(zip(there, now, strict=True))
        return [line for at, (old, new) in pairs for line in differences(old, new, f"{place} {at}")]
    return [] if there == now else [f"{place.strip()}: {short_text(there)} there, {short_text(now)} now"]


def short_text(value: object) -> str:
    """A value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_share(text: str, name: str) -> float:
    """A fraction in `2%` or `0.02`. Raises ValueError, on behalf of `name`, outside of 0 to 100 %."""
    match = re.fullmatch(r"((?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?)\s*(%?)", text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be a share in (0, 100 %], such as 2% or 0.02, got {text!r}")
    return share
