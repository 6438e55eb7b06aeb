"""Whole numbers as streams of bytes: at a fixed width, or entropy coded.

The coder is rANS (Duda 2013) over many interleaved lanes, so that numpy codes thousands of numbers at a time.
Each array has a frequency table of its own; one that would not shrink is packed at its width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.integer]
Bytes = npt.NDArray[np.uint8]

MOST_CODED_BITS = 8  # of a number that is entropy coded
_PRECISION = 14  # bits of a frequency
_WORD = 16  # bits that a state takes in or gives off at once
_LOW = 1 << _WORD  # below which a state takes in a word
_MOST_LANES, _NUMBERS_A_LANE = 4096, 4096


def pack_bits(numbers: Numbers, bits: int) -> Bytes:
    """Numbers 0 … 2^bits - 1 one after the other, lowest bit first, shape (⌈n · bits / 8⌉,)."""
    stream = (numbers.astype(np.int64)[:, None] >> np.arange(bits)) & 1
    return np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little")


def unpack_bits(packed: Bytes, bits: int, count: int) -> npt.NDArray[np.int64]:
    """What `pack_bits` packed, shape (count,). Raises ValueError if the bytes are fewer or more."""
    if packed.shape != (-(-count * bits // 8),):
        raise ValueError(f"{count} numbers of {bits} bits do not take {len(packed)} bytes")
    stream = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    numbers = np.zeros(count, dtype=np.int64)
    for place in range(bits):
        numbers += stream[:, place].astype(np.int64) << place
    return numbers


def encode(arrays: Sequence[Numbers], widths: Sequence[int]) -> Bytes:
    """Entropy code arrays of numbers of these widths, 1 to 8 bits, as one stream.

    The stream takes the entropy of each array's numbers, its table (2 bytes for each number between the least
    and the largest that occur), and 4 bytes for about 4096 numbers.
    """
    flags: list[bool] = []
    head: list[Bytes] = []
    coded: list[tuple[Numbers, npt.NDArray[np.int64]]] = []
    raw: list[Bytes] = []
    for numbers, width in zip(arrays, widths, strict=True):
        table = _frequencies(np.bincount(numbers, minlength=2**width)) if len(numbers) else None
        if table is None or _coded_bits(numbers, table) >= len(numbers) * width:
            flags.append(False)
            raw.append(pack_bits(numbers, width))
            continue
        flags.append(True)
        used = np.flatnonzero(table)
        ends = np.array([used[0], used[-1]], dtype=np.uint8)
        head += [ends, table[used[0] : used[-1] + 1].astype("<u2").view(np.uint8)]
        coded.append((numbers, table))
    states, words = _encode_lanes(coded)
    return np.concatenate(
        [
            np.packbits(np.array(flags, dtype=bool)),
            *head,
            *raw,
            states.astype("<u4").view(np.uint8),
            words.astype("<u2").view(np.uint8),
        ]
    )


def _coded_bits(numbers: Numbers, table: npt.NDArray[np.int64]) -> float:
    """Bits that numbers take at these frequencies, table included."""
    count = np.bincount(numbers, minlength=len(table))
    used = np.flatnonzero(table)
    bits = float((count[used] * (_PRECISION - np.log2(table[used]))).sum())
    return bits + 16.0 * float(used[-1] - used[0] + 2)


def _frequencies(count: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Frequencies that sum to 2^14, of at least 1 for what occurs."""
    total = 1 << _PRECISION
    table = np.where(count > 0, np.maximum(count * total // count.sum(), 1), 0)
    while excess := int(table.sum()) - total:
        most = int(table.argmax())
        table[most] -= excess if excess < 0 else min(excess, max(1, int(table[most]) // 2))
    return table


def lanes(count: int) -> int:
    """How many lanes code that many numbers."""
    return min(_MOST_LANES, -(-count // _NUMBERS_A_LANE))


def _encode_lanes(
    coded: Sequence[tuple[Numbers, npt.NDArray[np.int64]]],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The final states of the lanes and the words that they gave off, in the order of decoding."""
    if not coded:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    frequency, start = [], []
    for numbers, table in coded:
        frequency.append(table[numbers].astype(np.uint64))
        start.append((np.cumsum(table) - table)[numbers].astype(np.uint64))
    frequencies, starts = np.concatenate(frequency), np.concatenate(start)
    width = lanes(len(frequencies))
    states = np.full(width, _LOW, dtype=np.uint64)
    words: list[npt.NDArray[np.uint64]] = []
    limit, precision, word = np.uint64(2 * _WORD - _PRECISION), np.uint64(_PRECISION), np.uint64(_WORD)
    for first in reversed(range(0, len(frequencies), width)):
        f, c = frequencies[first : first + width], starts[first : first + width]
        state = states[: len(f)]
        full = state >= f << limit
        words.append(state[full] & np.uint64(_LOW - 1))
        state = np.where(full, state >> word, state)
        whole, rest = np.divmod(state, f)
        states[: len(f)] = (whole << precision) + rest + c
    return states, np.concatenate(words[::-1])


@dataclass(frozen=True, slots=True)
class _Tables:
    """What a state's lowest bits tell, for all arrays one after the other, shape (arrays · 2^14,)."""

    number: npt.NDArray[np.uint8]
    frequency: npt.NDArray[np.uint32]
    rest: npt.NDArray[np.uint32]  # what is added to the product


def decode(stream: Bytes, counts: Sequence[int], widths: Sequence[int]) -> list[npt.NDArray[np.int64]]:
    """The arrays, of these lengths and widths, that `encode` coded. Raises ValueError for another stream."""
    place = -(-len(counts) // 8)
    tables: list[npt.NDArray[np.int64] | None] = []
    for coded in np.unpackbits(stream[:place], count=len(counts)):
        if not coded:
            tables.append(None)
            continue
        least, most = (int(end) for end in stream[place : place + 2])
        size = 2 * (most - least + 1)
        table = np.zeros(256, dtype=np.int64)
        table[least : most + 1] = stream[place + 2 : place + 2 + size].view("<u2")
        if table.sum() != 1 << _PRECISION:
            raise ValueError("a table of frequencies is damaged")
        tables.append(table)
        place += 2 + size
    arrays: list[npt.NDArray[np.int64]] = []
    for count, width, frequencies in zip(counts, widths, tables, strict=True):
        size = -(-count * width // 8) if frequencies is None else 0
        arrays.append(
            unpack_bits(stream[place : place + size], width, count) if size else np.zeros(0, np.int64)
        )
        place += size
    tabled = [index for index, table in enumerate(tables) if table is not None]
    sizes = [counts[index] for index in tabled]
    numbers = _decode_lanes(stream[place:], sizes, [table for table in tables if table is not None])
    for index, part in zip(tabled, np.split(numbers, np.cumsum(sizes[:-1])) if tabled else [], strict=True):
        arrays[index] = part.astype(np.int64)
    return arrays


def _decode_lanes(
    stream: Bytes, counts: Sequence[int], tables: Sequence[npt.NDArray[np.int64]]
) -> npt.NDArray[np.uint8]:
    total = sum(counts)
    width = lanes(total)
    if total == 0:
        return np.zeros(0, np.uint8)
    if len(stream) < 4 * width or len(stream) % 2:
        raise ValueError("the coded stream is cut")
    states = stream[: 4 * width].view("<u4").astype(np.uint32)
    words = stream[4 * width :].view("<u2").astype(np.uint32)
    every = _slots(tables)
    base = np.repeat(np.arange(len(counts), dtype=np.int64) << _PRECISION, counts)
    numbers = np.empty(total, dtype=np.uint8)
    read = 0
    for first in range(0, total, width):
        offset = base[first : first + width]
        state = states[: len(offset)]
        slot = offset + (state & np.uint32((1 << _PRECISION) - 1))
        numbers[first : first + width] = every.number[slot]
        state = every.frequency[slot] * (state >> np.uint32(_PRECISION)) + every.rest[slot]
        low = np.flatnonzero(state < _LOW)
        taken = words[read : read + len(low)]
        if len(taken) < len(low):
            raise ValueError("the coded stream is damaged: it ends too early")
        read += len(taken)
        state[low] = (state[low] << np.uint32(_WORD)) | taken
        states[: len(offset)] = state
    if read != len(words) or (states != _LOW).any():
        raise ValueError("the coded stream is damaged")
    return numbers


def _slots(tables: Sequence[npt.NDArray[np.int64]]) -> _Tables:
    size = 1 << _PRECISION
    number = np.empty((len(tables), size), dtype=np.uint8)
    frequency, rest = np.empty((len(tables), size), np.uint32), np.empty((len(tables), size), np.uint32)
    for row, table in enumerate(tables):
        own = np.repeat(np.arange(len(table)), table)
        number[row], frequency[row] = own, table[own]
        rest[row] = np.arange(size) - (np.cumsum(table) - table)[own]
    return _Tables(number.reshape(-1), frequency.reshape(-1), rest.reshape(-1))
