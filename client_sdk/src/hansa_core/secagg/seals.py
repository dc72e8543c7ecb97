"""Seals, and the file of them that goes with one upload.

A seal is one Shamir share of one seed, encrypted for one member of the committee with AES-256-GCM
(NIST SP 800-38D). Its key serves one sender, one member and one round, so the seed's index is
nonce enough; everything that a seal belongs to is authenticated with it. The file, with k
neighbours and L members:

    "hsaseal1", k and L as u16       big-endian
    commitments  (k + 1) x 32 bytes  of the own seed, then of the pairs' by ascending neighbour
    seals        for each member, in order: (k + 1) x 49 bytes
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hansa_core.secagg.errors import SealError
from hansa_core.secagg.keys import KEY_SIZE, position_bytes
from hansa_core.secagg.shamir import SHARE_SIZE

SEAL_SIZE = SHARE_SIZE + 16  # bytes: the share and the tag
COMMITMENT_SIZE = 32  # bytes

_MAGIC = b"hsaseal1"
_HEADER = struct.Struct(">8sHH")
_SHARE = b"hansa/secagg/1 share\n"
_NONCE_SIZE = 12  # bytes
_MOST = 2**16 - 1  # neighbours, or members


def seal(
    share: bytes, key: bytes, round_digest: bytes, sender: int, member: int, index: int
) -> bytes:
    """Return the 49 bytes of one share under e_ic (`keys.seal_key`).

    Args:
        sender: position of who uploads.
        member: position of the member of the committee that can open it.
        index: of the seed: 0 for the sender's own, then 1 to k.

    Raises:
        SealError: a share, key or digest of another length.
        SecaggError: a position or index that is no u16.
    """
    if len(share) != SHARE_SIZE:
        raise SealError(f"the share has {len(share)} bytes, wanted {SHARE_SIZE}")
    bound = _bound(round_digest, sender, member, index)
    return _cipher(key).encrypt(index.to_bytes(_NONCE_SIZE, "big"), share, bound)


def seal_row(
    shares: Sequence[bytes], key: bytes, round_digest: bytes, sender: int, member: int
) -> list[bytes]:
    """Return one member's seals of a share of every seed, in order: as `seal`, many at once."""
    cipher = _cipher(key)
    bound = _bound_to(round_digest, sender, member)
    _check_sizes("share", shares, SHARE_SIZE)
    return [
        cipher.encrypt(nonce, share, bound + index)
        for share, (nonce, index) in zip(shares, _indices(len(shares)), strict=True)
    ]


def unseal(
    sealed: bytes, key: bytes, round_digest: bytes, sender: int, member: int, index: int
) -> bytes:
    """Return the 33 bytes of the share in a seal.

    Raises:
        SealError: the seal was changed, or made for something else or with another key.
        SecaggError: a position or index that is no u16.
    """
    if len(sealed) != SEAL_SIZE:
        raise SealError(f"the seal has {len(sealed)} bytes, wanted {SEAL_SIZE}")
    bound = _bound(round_digest, sender, member, index)
    try:
        return _cipher(key).decrypt(index.to_bytes(_NONCE_SIZE, "big"), sealed, bound)
    except InvalidTag as error:
        raise SealError(
            f"seal {index} of sender {sender} for member {member} does not open: "
            "changed, or made for another round or with another key"
        ) from error


def seals_size(neighbours: int, committee: int) -> int:
    """Return the bytes of the file of an upload with so many neighbours and members."""
    return _HEADER.size + (neighbours + 1) * (COMMITMENT_SIZE + committee * SEAL_SIZE)


def write_seals(commitments: Sequence[bytes], seals: Sequence[Sequence[bytes]]) -> bytes:
    """Return the file of k + 1 commitments and, for each member, its k + 1 seals.

    Raises:
        SealError: other numbers or sizes than these.
    """
    neighbours, committee = len(commitments) - 1, len(seals)
    _check_counts(neighbours, committee)
    for member, row in enumerate(seals):
        if len(row) != neighbours + 1:
            raise SealError(f"member {member} has {len(row)} seals, wanted {neighbours + 1}")
    _check_sizes("commitment", commitments, COMMITMENT_SIZE)
    _check_sizes("seal", chain.from_iterable(seals), SEAL_SIZE)
    header = _HEADER.pack(_MAGIC, neighbours, committee)
    return b"".join((header, *commitments, *chain.from_iterable(seals)))


class SealsFile:
    """A file of seals whose shape is right. Its seals are not opened: only their members can."""

    __slots__ = ("_data", "_seals_start", "commitments", "committee", "neighbours")

    def __init__(self, data: bytes, *, neighbours: int, committee: int) -> None:
        """Read a file that has to be for so many `neighbours` and so large a `committee`.

        Raises:
            SealError: another kind of file, other counts, too short or too long.
        """
        if len(data) < _HEADER.size:
            raise SealError(f"the seals have {len(data)} bytes, wanted at least {_HEADER.size}")
        magic, found_neighbours, found_committee = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise SealError(f"the seals start with {magic!r}, wanted {_MAGIC!r}")
        if (found_neighbours, found_committee) != (neighbours, committee):
            raise SealError(
                f"the seals are for {found_neighbours} neighbours and {found_committee} members, "
                f"wanted {neighbours} and {committee}"
            )
        size = seals_size(neighbours, committee)
        if len(data) != size:
            raise SealError(f"the seals have {len(data)} bytes, wanted {size}")
        self._data = data
        self._seals_start = _HEADER.size + (neighbours + 1) * COMMITMENT_SIZE
        self.neighbours = neighbours
        self.committee = committee
        self.commitments = tuple(
            data[start : start + COMMITMENT_SIZE]
            for start in range(_HEADER.size, self._seals_start, COMMITMENT_SIZE)
        )  # of the own seed, then of the pairs'

    def seal(self, member_index: int, seed_index: int) -> bytes:
        """Return the seal for the committee's member `member_index` (from 0) of one seed.

        Raises:
            SealError: there is no such member or seed.
        """
        if not (0 <= member_index < self.committee and 0 <= seed_index <= self.neighbours):
            raise SealError(
                f"seal {seed_index} for member {member_index}, wanted 0 to {self.neighbours} "
                f"for 0 to {self.committee - 1}"
            )
        index = member_index * (self.neighbours + 1) + seed_index
        start = self._seals_start + index * SEAL_SIZE
        return self._data[start : start + SEAL_SIZE]


@lru_cache(maxsize=8)
def _indices(count: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return the nonce of each of so many seeds, and its index as it is authenticated."""
    return tuple(
        (index.to_bytes(_NONCE_SIZE, "big"), position_bytes(index)) for index in range(count)
    )


def _bound(round_digest: bytes, sender: int, member: int, index: int) -> bytes:
    """Return what is authenticated with a seal."""
    return _bound_to(round_digest, sender, member) + position_bytes(index)


def _bound_to(round_digest: bytes, sender: int, member: int) -> bytes:
    """Return what is authenticated with every seal of one row."""
    if len(round_digest) != KEY_SIZE:
        raise SealError(f"the round digest has {len(round_digest)} bytes, wanted {KEY_SIZE}")
    return _SHARE + round_digest + position_bytes(sender) + position_bytes(member)


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_SIZE:
        raise SealError(f"the seal's key has {len(key)} bytes, wanted {KEY_SIZE}")
    return AESGCM(key)


def _check_counts(neighbours: int, committee: int) -> None:
    if not (0 < neighbours <= _MOST and 0 < committee <= _MOST):
        raise SealError(
            f"seals for {neighbours} neighbours and {committee} members, "
            f"wanted 1 to {_MOST} of each"
        )


def _check_sizes(what: str, parts: Iterable[bytes], size: int) -> None:
    sizes = list(map(len, parts))
    if sizes.count(size) != len(sizes):
        index, found = next(it for it in enumerate(sizes) if it[1] != size)
        raise SealError(f"{what} {index} has {found} bytes, wanted {size}")
