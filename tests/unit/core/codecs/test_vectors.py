"""Frozen files: what they decode to, what makes them, and what is refused for which reason."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hansa_core.codecs.formats import bytes_of
from hansa_core.inspection import Inspection
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, TensorFormatError
from hansa_core.tensors import bytes_reader, read_tensors, write_tensors
from tests.unit.core.codecs.reference import plain_decode
from tests.unit.core.codecs.samples import LIMIT, codec, decoded, encoded, inspected

FOLDER = Path(__file__).parents[3] / "vectors" / "codecs"
INDEX = json.loads((FOLDER / "index.json").read_text())
DELTA_FILE = (FOLDER / INDEX["delta"]).read_bytes()
DELTA = read_tensors(bytes_reader(DELTA_FILE), len(DELTA_FILE))
LAYOUT = Layout.of(DELTA)
SMALL = Layout.from_json(INDEX["small_layout"])


@pytest.mark.parametrize("case", INDEX["good"], ids=lambda case: case["file"])
def test_good_files_decode_to_what_they_always_did(case: dict[str, Any]) -> None:
    plan, file = codec(case["plan"]), (FOLDER / case["file"]).read_bytes()
    assert bytes_of(plan, LAYOUT) == len(file)
    tensors = decoded(plan, file, LAYOUT)
    exact = bytearray()
    write_tensors(tensors, exact.extend)
    assert hashlib.sha256(exact).hexdigest() == case["decoded_sha256"]
    assert isinstance(inspected(plan, LAYOUT, [file]), Inspection)
    for name, array in plain_decode(file, LAYOUT, plan).items():
        assert tensors[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("case", INDEX["good"], ids=lambda case: case["file"])
def test_good_files_are_what_the_delta_is_encoded_to(case: dict[str, Any]) -> None:
    assert encoded(codec(case["plan"]), DELTA) == (FOLDER / case["file"]).read_bytes()


@pytest.mark.parametrize("case", INDEX["bad"], ids=lambda case: case["file"])
def test_bad_files_are_refused(case: dict[str, Any]) -> None:
    plan, file = codec(case["plan"]), (FOLDER / case["file"]).read_bytes()
    found = inspected(plan, SMALL, [file], case.get("max_bytes", LIMIT))
    assert isinstance(found, tuple)
    reason, message = found
    assert reason == RefusalReason(case["reason"])
    assert case["says"] in message


@pytest.mark.parametrize("case", INDEX["bad"], ids=lambda case: case["file"])
def test_bad_files_are_not_decoded(case: dict[str, Any]) -> None:
    if case["reason"] == RefusalReason.TOO_LARGE:
        return  # the file itself is good
    plan, file = codec(case["plan"]), (FOLDER / case["file"]).read_bytes()
    with pytest.raises(TensorFormatError):
        decoded(plan, file, SMALL)


def test_every_file_is_in_the_index() -> None:
    listed = {case["file"] for case in INDEX["good"] + INDEX["bad"]}
    assert listed == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.bin")}
