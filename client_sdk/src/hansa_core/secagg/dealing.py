"""Dealing Shamir's shares (shamir.py says of what) of many secrets at once.

All polynomials are evaluated at all points in one pass of Horner's rule on arrays of limbs of 32
bits, least first. What lies above 2^256 is folded down now and then, as 2^256 = -297 modulo p.

Invariant: between two foldings, limbs stay far within int64; `_STEP_BITS` says why.

Shape suffixes: c coefficients, l limbs, s secrets, x points, n values, b bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from os import urandom
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hansa_core.secagg.errors import ShareError
from hansa_core.secagg.shamir import PRIME, SECRET_SIZE, SHARE_SIZE

_LIMB_BITS = 32
_LIMB = 2**_LIMB_BITS - 1
_LIMBS = 9  # of 32 bits: the last one has what lies from 2^256 on
_PADDED = 4 * _LIMBS  # bytes
_FOLD = PRIME - 2**256
# Points take up to so many bits in all between two foldings. Then the highest limb is below 2^24
# at the next one, and 297 times that below 2^33, so that is what no limb exceeds either way after
# it, and 2^55 before it.
_STEP_BITS = 21
_SHIFT = 7  # bits of a draw that are not used: p has 257
_DRAWS_END = (PRIME << _SHIFT).to_bytes(SHARE_SIZE, "big")  # draws from here on are thrown away
_DRAWS = 256  # that are read together
_SHARE = np.dtype((np.void, SHARE_SIZE))  # as a list, these are bytes

Limbs = NDArray[np.int64]


def deal(
    secrets: Sequence[bytes],
    *,
    threshold: int,
    shares: int,
    random_bytes: Callable[[int], bytes] | None = None,
) -> list[list[bytes]]:
    """Return, for each x = 1 .. `shares`, the shares of all 32-byte secrets in their order.

    Each secret has a polynomial of its own. `random_bytes` is asked for 33 at a time; without it
    they are the system's. The upper 257 bits of them are a coefficient if they are below p, else
    thrown away; all polynomials' highest coefficients are drawn first.

    Raises:
        ShareError: a secret of another length, or a threshold not within 1 to `shares`.
    """
    for secret in secrets:
        if len(secret) != SECRET_SIZE:
            raise ShareError(f"the secret has {len(secret)} bytes, wanted {SECRET_SIZE}")
    if not 1 <= threshold <= shares:
        raise ShareError(f"a threshold of {threshold} for {shares} shares")
    draws = _system_draws() if random_bytes is None else map(random_bytes, repeat(SHARE_SIZE))
    drawn_cb = _coefficients((threshold - 1) * len(secrets), draws)
    constant_sb = np.frombuffer(b"".join(secrets), np.uint8).reshape(-1, SECRET_SIZE)
    padded_cb = np.zeros((threshold * len(secrets), _PADDED), np.uint8)
    padded_cb[: len(drawn_cb), -SHARE_SIZE:] = drawn_cb
    padded_cb[len(drawn_cb) :, -SECRET_SIZE:] = constant_sb
    limbs_csl = padded_cb.view(">u4").reshape(threshold, len(secrets), _LIMBS)[..., ::-1]
    value_lxs = _evaluate(np.ascontiguousarray(limbs_csl.swapaxes(1, 2), np.int64), shares)
    value_ln = _reduced(value_lxs.reshape(_LIMBS, -1))
    padded_nb = np.ascontiguousarray(value_ln[::-1].T, ">u4").view(np.uint8)
    share_nb = np.ascontiguousarray(padded_nb[:, -SHARE_SIZE:])
    rows = share_nb.view(_SHARE).reshape(shares, len(secrets)).tolist()
    return cast("list[list[bytes]]", rows)


def _system_draws() -> Iterator[bytes]:
    """Yield 33 random bytes at a time: a call of the system for each would take longer."""
    while True:
        draws = np.frombuffer(urandom(_DRAWS * SHARE_SIZE), _SHARE).tolist()
        yield from cast("list[bytes]", draws)


def _coefficients(count: int, draws: Iterator[bytes]) -> NDArray[np.uint8]:
    """Return uniform numbers below p, of 33 big-endian bytes, of shape (count, 33)."""
    fitting = islice((draw for draw in draws if draw < _DRAWS_END), count)
    draw_cb = np.frombuffer(b"".join(fitting), np.uint8).reshape(count, SHARE_SIZE)
    value_cb = np.right_shift(draw_cb, np.uint8(_SHIFT))
    value_cb[:, 1:] |= np.left_shift(draw_cb[:, :-1], np.uint8(8 - _SHIFT))
    return value_cb


def _evaluate(limbs_cls: Limbs, points: int) -> Limbs:
    """Return the values at x = 1 .. `points`, highest coefficient first; not quite reduced."""
    point_x1 = np.arange(1, points + 1)[:, None]
    value_lxs = np.zeros((_LIMBS, points, limbs_cls.shape[-1]), np.int64)
    steps = max(1, _STEP_BITS // points.bit_length())
    for place, coefficient_ls in enumerate(limbs_cls, 1):
        value_lxs *= point_x1
        value_lxs += coefficient_ls[:, None]
        if place % steps == 0:
            carry_lxs = value_lxs >> _LIMB_BITS
            value_lxs[:-1] &= _LIMB
            value_lxs[1:] += carry_lxs[:-1]
            _fold(value_lxs)
    return value_lxs


def _reduced(value_ln: Limbs) -> Limbs:
    """Return the limbs of values modulo p, below 2^32 each.

    The first folding leaves them above -2^34 and below p + 2^34, the second from -297 on and below
    p: then only p is to be added to the negative ones.
    """
    for _ in range(2):
        _carry(value_ln)
        _fold(value_ln)
    _carry(value_ln)
    negative_n = value_ln[-1] < 0
    value_ln[0] += _FOLD * negative_n
    value_ln[-1] += negative_n
    _carry(value_ln)
    return value_ln


def _carry(value_ln: Limbs) -> None:
    for limb in range(_LIMBS - 1):
        value_ln[limb + 1] += value_ln[limb] >> _LIMB_BITS
        value_ln[limb] &= _LIMB


def _fold(value: Limbs) -> None:
    """Take multiples of p off until the highest limb is zero."""
    value[0] -= _FOLD * value[-1]
    value[-1] = 0
