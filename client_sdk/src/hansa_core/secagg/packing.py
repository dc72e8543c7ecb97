"""How small integers lie in words of 64 bits, so that adding words adds all of them.

Values are packed in blocks of 4096 words. Lane l of a block, the bits from l * lane_bits on, holds
the block's values from l * 4096 on; the last block is as wide as its values need, and lanes past
the last value hold zero. So packing and unpacking move whole rows.

    lanes       2   3   4   5
    lane_bits  32  21  16  12

Invariant: `sites` words of values up to `top` each add up without a carry from lane to lane, since
sites * top < 2 ** lane_bits.

Shape suffixes: _e elements in a row, w words, b blocks, l lanes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.secagg.errors import SecaggError

BLOCK = 4096  # words
TILE_BLOCKS = 4  # that are quantised together: a core's cache holds what they need
LEAST_SITES = 2  # a lane of one site would fill an int64 in the making
MOST_SITES = 10_000
LEAST_VALUE_BITS = 4

LANE_BITS = {2: 32, 3: 21, 4: 16, 5: 12}

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Tile:
    """Neighbouring blocks of packed values: words [first, stop) hold elements [begin, end)."""

    first: int
    stop: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Packing:
    """So many lanes for values of so many sites. Raises SecaggError for a packing that is none."""

    lanes: int
    sites: int  # most updates in a sum

    def __post_init__(self) -> None:
        if self.lanes not in LANE_BITS:
            raise SecaggError(
                f"a word has {self.lanes} lanes, wanted one of {', '.join(map(str, LANE_BITS))}"
            )
        if not LEAST_SITES <= self.sites <= MOST_SITES:
            raise SecaggError(
                f"a sum is of {self.sites} sites, wanted {LEAST_SITES} to {MOST_SITES}"
            )
        if self.value_bits < LEAST_VALUE_BITS:
            raise SecaggError(
                f"{self.lanes} lanes of {self.lane_bits} bits leave {self.value_bits} bits for a "
                f"value of one of {self.sites} sites, wanted {LEAST_VALUE_BITS} or more: "
                "fewer lanes, or fewer sites"
            )

    @property
    def lane_bits(self) -> int:
        """Bits of a lane of a sum."""
        return LANE_BITS[self.lanes]

    @property
    def site_bits(self) -> int:
        """Bits by which a sum over all sites is longer than a value: ceil(log2(sites))."""
        return ceil_log2(self.sites)

    @property
    def value_bits(self) -> int:
        """Bits of one site's value."""
        return self.lane_bits - self.site_bits

    @property
    def top(self) -> int:
        """The greatest value of one site."""
        return 2**self.value_bits - 1

    @property
    def block_elements(self) -> int:
        """Elements of a whole block."""
        return self.lanes * BLOCK

    def words(self, elements: int) -> int:
        """Return how many words so many elements take."""
        blocks, rest = divmod(elements, self.block_elements)
        return blocks * BLOCK + -(-rest // self.lanes)

    def place(self, element: int, elements: int) -> tuple[int, int]:
        """Return the word and the lane of one of `elements` elements."""
        _check_range(element, element + 1, elements, "element")
        block, within = divmod(element, self.block_elements)
        width = self.words(elements) - block * BLOCK
        lane, word = divmod(within, min(width, BLOCK))
        return block * BLOCK + word, lane

    def words_of(self, begin: int, end: int, elements: int) -> range:
        """Return the words of the whole blocks that hold elements [begin, end) of `elements`."""
        _check_range(begin, end, elements, "element")
        if begin == end:
            return range(0)
        last = -(-end // self.block_elements)
        first = begin // self.block_elements
        return range(first * BLOCK, min(last * BLOCK, self.words(elements)))

    def elements_of(self, first: int, stop: int, elements: int) -> range:
        """Return the elements that words [first, stop) hold: whole blocks, of `elements` in all.

        Raises SecaggError where a block would be cut.
        """
        words = self.words(elements)
        _check_range(first, stop, words, "word")
        if first % BLOCK or (stop % BLOCK and stop != words):
            raise SecaggError(
                f"words {first} to {stop} of {words} cut a block, "
                f"wanted multiples of {BLOCK}, or the end"
            )
        whole = self.block_elements // BLOCK
        end = elements if stop == words else stop * whole
        return range(min(first * whole, end), end)

    def tiles(self, first: int, stop: int, elements: int) -> Iterator[Tile]:
        """Cut words [first, stop), whole blocks, into tiles of a bounded size."""
        span = self.elements_of(first, stop, elements)
        step = TILE_BLOCKS * BLOCK
        for word in range(first, stop, step):
            begin = word * self.lanes
            end = min(begin + step * self.lanes, span.stop)
            yield Tile(word, min(word + step, stop), begin, end)

    def pack(self, values_e: NDArray[np.int64], out_w: Words) -> None:
        """Write values 0 to `top` of whole blocks, the last of them perhaps narrower."""
        raw_e = values_e.view(np.uint64)
        whole = len(raw_e) // self.block_elements
        self._pack_rows(
            raw_e[: whole * self.block_elements].reshape(whole, self.lanes, BLOCK),
            out_w[: whole * BLOCK].reshape(whole, BLOCK),
        )
        rest_e = raw_e[whole * self.block_elements :]
        if len(rest_e):
            width = -(-len(rest_e) // self.lanes)
            padded_e = np.zeros(width * self.lanes, np.uint64)
            padded_e[: len(rest_e)] = rest_e
            self._pack_rows(
                padded_e.reshape(1, self.lanes, width), out_w[whole * BLOCK :].reshape(1, width)
            )

    def unpack(self, words_w: Words, out_e: NDArray[np.int64]) -> None:
        """Write the lanes of whole blocks, the last of them perhaps narrower.

        A last lane has the bits above it as well, so that a sum with a carry shows. Raises
        SecaggError where a lane past the last value is not zero.
        """
        raw_e = out_e.view(np.uint64)
        whole = len(raw_e) // self.block_elements
        self._unpack_rows(
            words_w[: whole * BLOCK].reshape(whole, BLOCK),
            raw_e[: whole * self.block_elements].reshape(whole, self.lanes, BLOCK),
        )
        rest_e = raw_e[whole * self.block_elements :]
        if len(rest_e):
            width = -(-len(rest_e) // self.lanes)
            padded_e = np.empty(width * self.lanes, np.uint64)
            self._unpack_rows(
                words_w[whole * BLOCK :].reshape(1, width), padded_e.reshape(1, self.lanes, width)
            )
            rest_e[:] = padded_e[: len(rest_e)]
            if padded_e[len(rest_e) :].any():
                seen = int(padded_e[len(rest_e) :].max())
                raise SecaggError(f"a lane past the last value sums up to {seen}, wanted 0")

    def _pack_rows(self, values_blw: Words, out_bw: Words) -> None:
        np.left_shift(values_blw[:, -1], _shift(self.lane_bits), out=out_bw)
        for lane in range(self.lanes - 2, -1, -1):
            np.bitwise_or(out_bw, values_blw[:, lane], out=out_bw)
            if lane:
                np.left_shift(out_bw, _shift(self.lane_bits), out=out_bw)

    def _unpack_rows(self, words_bw: Words, out_blw: Words) -> None:
        mask = np.uint64(2**self.lane_bits - 1)
        np.bitwise_and(words_bw, mask, out=out_blw[:, 0])
        for lane in range(1, self.lanes):
            lane_bw = out_blw[:, lane]
            np.right_shift(words_bw, _shift(lane * self.lane_bits), out=lane_bw)
            if lane < self.lanes - 1:
                np.bitwise_and(lane_bw, mask, out=lane_bw)


def ceil_log2(number: int) -> int:
    """Return the least k with 2 ** k >= number, for a number of at least 1."""
    return (number - 1).bit_length()


def check_words(words_w: NDArray[Any], wanted: int, what: str) -> None:
    """Raise SecaggError unless `words_w` are so many words in a row."""
    if words_w.dtype != np.uint64 or words_w.shape != (wanted,):
        raise SecaggError(
            f"{what} is {words_w.dtype}{list(words_w.shape)}, wanted uint64[{wanted}]"
        )


def _shift(bits: int) -> np.uint64:
    return np.uint64(bits)


def _check_range(first: int, stop: int, count: int, what: str) -> None:
    if not 0 <= first <= stop <= count:
        raise SecaggError(f"{what}s {first} to {stop} are asked for, wanted 0 to {count}")
