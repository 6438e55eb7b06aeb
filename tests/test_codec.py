"""The codec: what a file holds for a dataclass, and what is read back from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from ordercomp.codec import (
    FLAT,
    OMITTED,
    REST,
    UNWRITTEN,
    decode,
    encode,
    format_json,
    named,
    parse_json,
    parse_share,
    read_json,
    write_json,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    size: float
    spokes: int = field(default=8, metadata=OMITTED)
    worn: bool = field(default=False, metadata=UNWRITTEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    kind: Literal["steel", "wood"]
    grams: int = field(default=0, metadata=named("weight_in_grams"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bicycle:
    KEYS: ClassVar = ("name", "kind", "weight_in_grams", "heavy", "wheels", "lamps", "spare")

    name: str
    frame: Frame = field(metadata=FLAT)
    wheels: tuple[Wheel, ...] = ()
    lamps: Mapping[str, Wheel | None] = field(default_factory=dict)
    spare: Wheel | None = None

    @property
    def heavy(self) -> bool:
        return self.frame.grams > 9000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    bicycles: tuple[Bicycle, ...]
    extra: Mapping[str, Any] = field(default_factory=dict, metadata=REST)


BICYCLE = Bicycle(
    name="grey",
    frame=Frame(kind="steel", grams=9500),
    wheels=(Wheel(size=26.5, worn=True), Wheel(size=28.0, spokes=36)),
    lamps={"front": Wheel(size=0.5), "back": None},
)
TABLE = {
    "name": "grey",
    "kind": "steel",
    "weight_in_grams": 9500,
    "heavy": True,
    "wheels": [{"size": 26.5}, {"size": 28.0, "spokes": 36}],
    "lamps": {"front": {"size": 0.5}, "back": None},
    "spare": None,
}


def test_names_parts_and_what_is_left_out_lie_in_the_file_as_the_dataclass_says() -> None:
    assert encode(BICYCLE) == TABLE
    assert list(encode(BICYCLE)) == list(TABLE)
    assert format_json(Wheel(size=1.0)) == '{"size": 1.0}'
    assert format_json(Wheel(size=1.0), indent=2) == '{\n  "size": 1.0\n}\n'


def test_what_was_written_is_read_back_but_for_what_is_derived_or_unwritten() -> None:
    read = decode(TABLE, Bicycle, "bicycle")
    assert read.wheels == (Wheel(size=26.5), Wheel(size=28.0, spokes=36))
    assert (read.frame, read.lamps, read.spare) == (BICYCLE.frame, BICYCLE.lamps, None)
    assert not decode({**TABLE, "weight_in_grams": 1}, Bicycle, "bicycle").heavy


def test_unknown_keys_are_kept_refused_or_left_out() -> None:
    shed = decode({"bicycles": [TABLE], "door": "green"}, Shed, "shed")
    assert (shed.extra, encode(shed)) == ({"door": "green"}, {"bicycles": [TABLE], "door": "green"})
    more = {**TABLE, "wheels": [{"size": 1.0, "rim": "wide"}], "bell": True}
    with pytest.raises(ValueError, match=r"bicycle wheels\[0\] has no setting 'rim'; its settings are: size"):
        decode(more, Bicycle, "bicycle")
    assert decode(more, Bicycle, "bicycle", strict=False).wheels == (Wheel(size=1.0),)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "tin"}, "bicycle key 'kind' must be steel or wood, got 'tin'"),
        ({"weight_in_grams": "9"}, "bicycle key 'weight_in_grams' must be a whole number, got '9'"),
        ({"wheels": [{}]}, r"bicycle wheels\[0\] lacks the key 'size'"),
        ({"wheels": [{"size": 1.0, "spokes": None}]}, r"key 'wheels\[0\].spokes' must be a whole number"),
        ({"wheels": {"size": 1.0}}, "bicycle key 'wheels' must be a list, got {'size': 1.0}"),
        ({"lamps": {"front": {"size": "s"}}}, "bicycle key 'lamps.….size' must be a number"),
        ({"lamps": {"front": 5}}, "bicycle lamps front must be a table of settings, got 5"),
        ({"spare": 5}, "bicycle spare must be a table of settings, got 5"),
    ],
)
def test_errors_name_the_key_of_the_file_what_was_expected_and_what_came(
    change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        decode({**TABLE, **change}, Bicycle, "bicycle")


@pytest.mark.parametrize("key", ["name", "kind"])
def test_a_missing_key_is_named_in_a_flat_part_too(key: str) -> None:
    with pytest.raises(ValueError, match=f"bicycle lacks the key '{key}'"):
        decode({name: value for name, value in TABLE.items() if name != key}, Bicycle, "bicycle")


def test_an_order_of_keys_that_forgets_one_is_refused() -> None:
    @dataclass(frozen=True)
    class Bell:
        KEYS: ClassVar = ("tone",)
        tone: str = "a"
        loud: bool = False

    with pytest.raises(TypeError, match=r"Bell\.KEYS lacks loud"):
        encode(Bell())


def test_json_holds_no_infinity() -> None:
    with pytest.raises(ValueError, match="JSON"):
        format_json(Wheel(size=float("inf")))


def test_a_file_carries_a_checksum_that_finds_each_changed_byte(tmp_path: Path) -> None:
    path, held = tmp_path / "a.json", {"name": "wheel", "sizes": [1, 2.5]}
    write_json(path, held)
    assert read_json(path) == held
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert held.items() <= read_json(path).items()  # the word "checksum" itself was hit
        except ValueError as error:
            assert "a.json is damaged" in str(error)  # noqa: PT017
    path.write_text('{"name": "by hand"}')
    assert read_json(path) == {"name": "by hand"}


@pytest.mark.parametrize("key", ["a.b", "a[0]", "]", ".", "[...]", ""])
def test_a_number_that_is_not_finite_is_told_whatever_its_key(key: str) -> None:
    with pytest.raises(ValueError, match="must be finite, got nan"):
        parse_json(f'{{"list": [{{"{key}": NaN}}]}}'.encode())


@pytest.mark.parametrize("text", ["2%", "2 %", " 2.0% ", "0.02", ".02", "2e-2", "0.2E1 %"])
def test_a_share_reads_as_people_write_it(text: str) -> None:
    assert parse_share(text, "loss") == 0.02


@pytest.mark.parametrize("text", ["2", "200%", "-1%", "%", "2%%", "2,5%", "two", "2 percent", "nan", "1e999"])
def test_what_is_no_share_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"^loss must be a share in \(0, 100 %\], such as 2% or 0.02, got '"):
        parse_share(text, "loss")
