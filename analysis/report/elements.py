"""What pages are made of: facts, inlined pictures, spans of time, provenance, and a template filled in."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ordercomp.records import Record

_FILES = {"style": "style.css", "script": "page.js"}
_LOADER = PackageLoader("ordercomp.analysis.report", package_path="")
_TEMPLATES = Environment(
    loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An inlined figure with the words for those who do not see it."""

    source: str  # data URL
    caption: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A number that a page opens with."""

    value: str
    name: str
    place: str = ""  # by which a script finds it, where it changes with what is chosen


def render(template: str, content: Mapping[str, object]) -> str:
    """Fill a template of this folder with `content` and with `style` and `script`, those of the page."""
    files = {name: _LOADER.get_source(_TEMPLATES, file)[0] for name, file in _FILES.items()}
    return str(fill(template, **content, **files))


def fill(template: str, **content: object) -> Markup:
    """Fill a template of this folder; every text in it is escaped."""
    return Markup(_TEMPLATES.get_template(template).render(**content))


def tight(text: str) -> str:
    """The text with its percentages kept whole: no line ends before the sign."""
    return text.replace(" %", "\u00a0%")


_TEMPLATES.filters["tight"] = tight


def inline(svg: str, caption: str) -> Picture:
    """A picture, given as SVG text, inside of a data URL."""
    code = base64.b64encode(svg.encode()).decode()
    return Picture(f"data:image/svg+xml;base64,{code}", caption)


def provenance_of(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What the records say of how and where they were made, each key with all the values that occur."""
    lines = []
    for key in ("accounting", "precision", "versions", "hardware"):
        values = distinct(_plain(record.extra[key]) for record in records if key in record.extra)
        if values:
            lines.append((key, "; ".join(values)))
    return lines


def notices_of(records: Sequence[Record]) -> list[str]:
    """What the records say that a reader should know of data and stages: of each step what came first."""
    data = distinct(notice for record in records for notice in record.extra.get("notices", ()))
    steps: dict[str, str] = {}
    for record in sorted(records, key=lambda record: (len(record.order), record.sequence, record.seed)):
        for done in record.extra.get("achieved", ()):
            if "notice" in done:
                steps.setdefault(done["step"], f"{done['step']} {done['notice']} (in {record.sequence}).")
    return [*data, *steps.values()]


def distinct(texts: Iterable[str]) -> list[str]:
    """The texts that are not empty, each once, sorted."""
    return sorted({text for text in texts if text})


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return str(value)
