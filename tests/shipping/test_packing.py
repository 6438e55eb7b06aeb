"""Packed whole numbers: the bytes by hand, the way back for every width, and what does not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ordercomp.shipping.packed import pack, unpack


def test_two_bit_numbers_take_a_quarter_of_a_byte_each_worked_by_hand() -> None:
    numbers = torch.tensor([[3, 0], [1, 2], [1, 0]])
    assert pack(numbers, 2).tolist() == [0b10_01_00_11, 0b00_01]


@given(bits=st.integers(1, 16), count=st.integers(0, 40), seed=st.integers(0, 99))
def test_what_was_packed_comes_back(bits: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(2**bits, (count, 3), generator=generator)
    packed = pack(numbers, bits)
    assert packed.numel() == -(-3 * count * bits // 8)
    assert torch.equal(unpack(packed, bits, (count, 3)), numbers.float())


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="numbers must lie in 0 to 3 to take 2 bits, got 0 to 4"):
        pack(torch.tensor([0, 4]), 2)
    with pytest.raises(ValueError, match="bits must lie in 1 to 16, got 17"):
        pack(torch.tensor([0]), 17)


def test_bytes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 numbers of 2 bits must be packed into 2 bytes, got \(3,\)"):
        unpack(torch.zeros(3, dtype=torch.uint8), 2, (5,))
