"""Canonical JSON: one value, one byte string, so that both ends sign and hash the same bytes.

The form is RFC 8785 (JCS) with four differences, each to keep values apart or code small:
- object keys are sorted by code point (the order of their UTF-8 bytes), not by UTF-16 unit;
- a float is written as Python's shortest `repr` that reads back as the same float, so 1.0 stays
  "1.0" and apart from the integer 1, and -0.0 stays "-0.0";
- integers are written in full, and must fit 64 bits, signed or unsigned;
- lone surrogates are refused.
As there: no white space; UTF-8 without a byte order mark; in strings only the quote, the
backslash and the characters below U+0020 are escaped, as \\b \\t \\n \\f \\r or else \\u00xx in
lower-case hex; no Unicode normalisation; NaN and infinities are refused. Tuples are written as
lists.
"""

import json
import math
from collections.abc import Iterable
from typing import cast

from hansa_core.problems import CanonicalizationError

MAX_DEPTH = 32  # nested lists and objects; also ends a value that contains itself

_LEAST = -(2**63)
_GREATEST = 2**64 - 1


def canonical_json(value: object) -> bytes:
    """Return the canonical JSON of None, bool, int, float, str, and lists and dicts of them.

    Raises CanonicalizationError for any other type, a key that is not a string, or a value out
    of the bounds above, naming its path.
    """
    _check(value, "$", 0)
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    return text.encode()


def _check(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CanonicalizationError(f"{path[:200]} is nested deeper than {MAX_DEPTH}")
    if isinstance(value, list | tuple):
        for index, item in enumerate(cast("Iterable[object]", value)):
            _check(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if not isinstance(key, str):
                raise CanonicalizationError(f"{path[:200]} has the key {key!r}, wanted a string")
            _check_text(key, path)
            _check(item, f"{path}.{key}", depth + 1)
    else:
        _check_scalar(value, path)


def _check_scalar(value: object, path: str) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, int):
        if not _LEAST <= value <= _GREATEST:
            raise CanonicalizationError(
                f"{path[:200]} takes {value.bit_length()} bits, wanted an integer of 64"
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise CanonicalizationError(f"{path[:200]} is {value}, wanted a finite number")
    else:
        raise CanonicalizationError(
            f"{path[:200]} is a {type(value).__name__}, wanted a JSON value"
        )


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CanonicalizationError(
            f"{path[:200]!r} holds a lone surrogate: {text[:80]!r}"
        ) from error
