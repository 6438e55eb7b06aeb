"""Numbers as bytes: every array comes back, its size is near the entropy, and damage is told."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordercomp.networks.bits import decode, encode, pack_bits, unpack_bits


def entropy_bits(numbers: np.ndarray) -> float:
    share = np.bincount(numbers) / len(numbers)
    share = share[share > 0]
    return float(-len(numbers) * (share * np.log2(share)).sum())


@pytest.mark.integration
@given(
    arrays=st.lists(
        st.tuples(st.integers(1, 8), st.integers(0, 400), st.floats(0.02, 1.0), st.integers(0, 9)), max_size=4
    )
)
def test_every_array_comes_back(arrays: list[tuple[int, int, float, int]]) -> None:
    numbers = [
        np.minimum(np.random.default_rng(seed).geometric(peak, size) - 1, 2**width - 1)
        for width, size, peak, seed in arrays
    ]
    widths = [width for width, *_ in arrays]
    found = decode(encode(numbers, widths), list(map(len, numbers)), widths)
    assert len(found) == len(numbers)
    for one, two in zip(numbers, found, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("width", [1, 3, 8, 13])
def test_packed_numbers_come_back(width: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 2**width, 1001)
    packed = pack_bits(numbers, width)
    assert len(packed) == -(-1001 * width // 8)
    assert np.array_equal(unpack_bits(packed, width, 1001), numbers)
    with pytest.raises(ValueError, match="1001 numbers of"):
        unpack_bits(packed[:-1], width, 1001)


@pytest.mark.parametrize(("width", "peak"), [(1, 0.9), (2, 0.6), (4, 0.4), (8, 0.05)])
def test_a_stream_is_within_three_percent_of_the_entropy(width: int, peak: float) -> None:
    rng = np.random.default_rng(0)
    arrays = [np.minimum(rng.geometric(peak, 60_000) - 1, 2**width - 1) for _ in range(2)]
    stream = encode(arrays, [width] * 2)
    assert 8 * len(stream) < 1.03 * sum(map(entropy_bits, arrays))


def test_what_would_not_shrink_is_packed() -> None:
    numbers = np.random.default_rng(0).integers(0, 4, 1000)
    assert len(encode([numbers], [2])) == 250 + 1
    assert len(encode([np.zeros(100_000, dtype=np.int64)], [4])) < 110  # lanes, and a table of one number


def test_a_damaged_stream_is_told() -> None:
    numbers = np.random.default_rng(0).geometric(0.3, 20_000).clip(1, 16) - 1
    stream = encode([numbers], [4])
    for place in (1, 9, len(stream) // 2):
        bad = stream.copy()
        bad[place] ^= 0x55
        with pytest.raises((ValueError, IndexError)):
            decode(bad, [20_000], [4])
    with pytest.raises(ValueError, match="damaged"):
        decode(stream[:-2], [20_000], [4])


@pytest.mark.integration
def test_four_million_numbers_are_decoded_fast() -> None:
    """11 million, of a ResNet-18, take 0.25 s on an idle core; the bound is for a busy machine."""
    numbers = (np.random.default_rng(0).geometric(0.3, 4_000_000).clip(1, 16) - 1).astype(np.uint8)
    stream = encode([numbers], [4])
    start = time.process_time()
    assert np.array_equal(decode(stream, [len(numbers)], [4])[0], numbers)
    assert time.process_time() - start < 1.0
