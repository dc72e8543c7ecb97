"""Masks: the key stream of a seed as little-endian u64 words, added to or taken off a vector.

The stream is AES-256 in counter mode from counter 0 (NIST SP 800-38A, 6.5; the counter is one
16-byte big-endian integer) or ChaCha20 (RFC 8439, 2.4) with a zero nonce from block 0. Either can
be entered at any word, so a vector can be cut among workers. A seed masks one vector, ever: that
is why neither stream needs a nonce.

A constant tile of zeros is encrypted into a reused one, then added, so memory does not grow with
the vector, and the tile of the vector stays in the cache while mask after mask is added to it. The
cipher and the addition release the interpreter's lock.
"""

from collections.abc import Iterable
from enum import StrEnum

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from hansa_core.secagg.errors import SecaggError

SEED_SIZE = 32  # bytes
TILE_WORDS = 32_768  # 256 KiB: this, the zeros and a tile of the vector fit a core's cache

_WORD_SIZE = 8  # bytes
_AES_BLOCK = 16  # bytes
_CHACHA_BLOCK = 64  # bytes
_AES_MOST_WORDS = 2**128 * (_AES_BLOCK // _WORD_SIZE)
_CHACHA_MOST_WORDS = 2**32 * (_CHACHA_BLOCK // _WORD_SIZE)  # RFC 8439: a 32-bit block counter
_ZEROS = bytes(TILE_WORDS * _WORD_SIZE)


class Suite(StrEnum):
    """The cipher that a run's masks are made with. The names are in its terms: permanent."""

    AES = "aes-256-ctr"  # where processors have instructions for it, which is nearly everywhere
    CHACHA = "chacha20"  # quick without


class MaskStream:
    """The masks of several seeds, on their way along one vector. One thread's at a time."""

    __slots__ = ("_added", "_bytes", "_place", "_subtracted", "_suite", "_words")

    def __init__(
        self,
        added: Iterable[bytes] = (),
        subtracted: Iterable[bytes] = (),
        *,
        first_word: int = 0,
        suite: Suite = Suite.AES,
    ) -> None:
        """Enter the streams of the seeds to be added and subtracted at `first_word`.

        Raises:
            SecaggError: a seed of other than 32 bytes, or a word that the stream does not have.
        """
        self._suite = suite
        self._place = first_word
        self._check_end(first_word)
        self._bytes = bytearray(TILE_WORDS * _WORD_SIZE)
        self._words = np.frombuffer(self._bytes, np.dtype("<u8"))
        self._added = [_entered(seed, first_word, suite, self._bytes) for seed in added]
        self._subtracted = [_entered(seed, first_word, suite, self._bytes) for seed in subtracted]

    def apply(self, words: NDArray[np.uint64]) -> None:
        """Add and subtract the masks' next words to the vector's next ones, in place, mod 2^64.

        Args:
            words: any number of them, of shape (words,). The next call goes on behind them.

        Raises:
            SecaggError: an array of another kind, or more words than a stream has.
        """
        if words.dtype != np.uint64 or words.ndim != 1:
            raise SecaggError(
                f"masks for an array of {words.ndim} dimensions of {words.dtype}, "
                "wanted one of uint64"
            )
        self._check_end(self._place + len(words))
        for start in range(0, len(words), TILE_WORDS):
            tile = words[start : start + TILE_WORDS]
            size = len(tile) * _WORD_SIZE
            zeros, masked = memoryview(_ZEROS)[:size], memoryview(self._bytes)[:size]
            mask = self._words[: len(tile)]
            for cipher in self._added:
                cipher.update_into(zeros, masked)
                np.add(tile, mask, out=tile)
            for cipher in self._subtracted:
                cipher.update_into(zeros, masked)
                np.subtract(tile, mask, out=tile)
        self._place += len(words)

    def _check_end(self, end: int) -> None:
        most = _CHACHA_MOST_WORDS if self._suite is Suite.CHACHA else _AES_MOST_WORDS
        if not 0 <= end <= most:
            raise SecaggError(f"word {end} of a {self._suite} mask, wanted 0 to {most}")


def add_mask(
    words: NDArray[np.uint64],
    seed: bytes,
    *,
    first_word: int = 0,
    negative: bool = False,
    suite: Suite = Suite.AES,
) -> None:
    """Add one seed's mask to a vector's words from `first_word` on, in place; or subtract it.

    Args:
        words: shape (words,), the part of the vector that begins at `first_word`.

    Raises:
        SecaggError: as `MaskStream` does.
    """
    one = (seed,)
    stream = MaskStream(
        () if negative else one, one if negative else (), first_word=first_word, suite=suite
    )
    stream.apply(words)


def _entered(seed: bytes, first_word: int, suite: Suite, scratch: bytearray) -> CipherContext:
    """Return the cipher whose next bytes are those of `first_word`."""
    if len(seed) != SEED_SIZE:
        raise SecaggError(f"the mask's seed has {len(seed)} bytes, wanted {SEED_SIZE}")
    block = _AES_BLOCK if suite is Suite.AES else _CHACHA_BLOCK
    counter, skipped = divmod(first_word * _WORD_SIZE, block)
    if suite is Suite.AES:
        cipher = Cipher(AES256(seed), CTR(counter.to_bytes(16, "big"))).encryptor()
    else:
        # The library wants block counter and nonce in one: little-endian, the nonce zero.
        cipher = Cipher(ChaCha20(seed, counter.to_bytes(16, "little")), None).encryptor()
    if skipped:
        cipher.update_into(_ZEROS[:skipped], scratch)
    return cipher
