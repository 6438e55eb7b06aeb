"""Layout: how a frozen dataclass lies in a file, as its fields and their metadata say.

A dataclass is a table with a key for each field, in their order. Where a file differs, the metadata of a
field say so: `named` another key, FLAT a part whose keys stand among those of the whole, OMITTED what is left
out where it is the default, UNWRITTEN what no file holds, REST what no other field takes. A dataclass with
KEYS is written in their order; those of them that are properties are derived, so they are not read back.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

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


@dataclass(frozen=True, slots=True)
class Layout:
    """How a dataclass lies in a file."""

    written: tuple[Item, ...]
    read: Mapping[str, Item]  # by key, those of flat parts left out
    parts: Mapping[str, tuple[str, Any]]  # field and kind of the flat part that has a key
    derived: frozenset[str]
    order: tuple[str, ...] | None  # of all keys, if it is not that of the fields
    required: tuple[str, ...]
    rest: str | None


# What a value is made of, as far as dataclasses are in it: one, a list of something, a table of something.
Plan = tuple[Literal["one", "list", "table"], Any] | None


@cache
def layout_of(kind: Any) -> Layout:
    hints = get_type_hints(kind)
    items: dict[str, Item] = {}
    parts: dict[str, tuple[str, Any]] = {}
    rest, required = None, []
    for one in fields(kind):
        if one.metadata.get("rest"):
            rest = one.name
        elif one.metadata.get("flat"):
            items[one.name] = Item(one.name, one.name, flat=True)
            part = layout_of(hints[one.name])
            parts |= dict.fromkeys((*part.read, *part.parts, *part.derived), (one.name, hints[one.name]))
        elif one.init and not one.metadata.get("unwritten"):
            key = one.metadata.get("key", one.name)
            left_out = bool(one.metadata.get("omitted"))
            items[key] = Item(key, one.name, plan_of(hints[one.name]), omitted=left_out, default=one.default)
            if one.default is MISSING and one.default_factory is MISSING:
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
    found = next((plan for inner in get_args(hint) if (plan := plan_of(inner)) is not None), None)
    if found is None:
        return None
    if origin in (tuple, list):
        return "list", found
    return ("table", found) if isinstance(origin, type) and issubclass(origin, Mapping) else found


def dataclass_in(hint: Any) -> Any:
    """The dataclass that an annotation holds, at whatever depth; None without one."""
    if hint is None or is_dataclass(hint):
        return hint
    return next((found for one in get_args(hint) if (found := dataclass_in(one)) is not None), None)
