"""What docs/ says of tables, states and signatures is what the code does."""

import json
import re
import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from app.db.base import Base
from app.db.models import User  # loads the tables
from app.domain import enrollment, rounds, runs
from app.domain.errors import IllegalTransitionError
from app.domain.secure import DutyState, RosterState
from hansa_core import signing, wire
from hansa_core.canonical import canonical_json
from hansa_core.secagg.plans import SecurePlan
from hansa_core.secagg.terms import QuantiserPlan, SummedMetrics
from hansa_core.states import RoundState, RunState, SiteState, TaskState
from hansa_core.strategies import strategies

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEY = bytes(range(32))
LINK = re.compile(r"\]\(([^)#:]+)\)")
PATH = re.compile(r"`((?:app|worker|client_sdk|migrations|tests|deploy)/[\w./-]*)`")


def diagrams() -> list[set[tuple[str, str]]]:
    """Return each state diagram of the data model as its set of edges."""
    text = (DOCS / "data-model.md").read_text()
    blocks = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    return [set(re.findall(r"^\s+(\w+) --> (\w+)", block, re.MULTILINE)) for block in blocks]


def legal(states: Any, require: Callable[[Any, Any], None]) -> set[tuple[str, str]]:
    """Return every move that the domain allows."""
    moves: set[tuple[str, str]] = set()
    for current, target in product(states, repeat=2):
        try:
            require(current, target)
        except IllegalTransitionError:
            continue
        moves.add((str(current), str(target)))
    return moves


def test_every_table_is_described() -> None:
    assert User.metadata is Base.metadata
    described = re.findall(r"^\| `(\w+)` \|", (DOCS / "data-model.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(Base.metadata.tables)


def test_the_state_diagrams_are_the_domains_moves() -> None:
    site, run, round_, roster, duty, task = diagrams()
    assert site == legal(SiteState, enrollment.require_legal)
    assert run == legal(RunState, runs.require_legal)
    assert round_ == legal(RoundState, rounds.require_legal)
    assert {state.replace("_", "-") for move in roster for state in move} == set(RosterState)
    assert {state for move in duty for state in move} == set(DutyState)
    assert {state for move in task for state in move} == set(TaskState)


@pytest.mark.parametrize(
    ("field", "model", "purpose"),
    [
        ("enrollment", wire.SignedEnrollment, signing.Purpose.ENROLL),
        ("manifest", wire.SignedUpdate, signing.Purpose.UPDATE),
    ],
)
def test_the_signed_examples_are_messages_and_verify(
    field: str, model: type[wire.SignedEnrollment | wire.SignedUpdate], purpose: signing.Purpose
) -> None:
    (example,) = [found for found in json_examples() if field in found]
    message = model.model_validate(example)
    payload = canonical_json(getattr(message, field).model_dump(mode="json"))
    signature = signing.decode_base64(message.signature)
    signing.verify(signing.public_key(KEY), purpose, payload, signature)


def test_the_task_example_is_a_task() -> None:
    (example,) = [found for found in json_examples() if "kind" in found]
    task = wire.Task.model_validate(example)
    assert json.loads(task.model_dump_json()) == example


def test_the_documented_purposes_are_all_purposes() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", (DOCS / "protocol.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(signing.Purpose)


@pytest.mark.parametrize("document", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_documents_point_at_files_that_exist(document: Path) -> None:
    text = document.read_text()
    links = [document.parent / target for target in LINK.findall(text)]
    paths = [DOCS.parent / target for target in PATH.findall(text)]
    assert [str(path) for path in links + paths if not path.exists()] == []


def test_the_documented_secure_section_is_every_field_with_its_default() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / "runs.md").read_text(), re.DOTALL)
    (block,) = [found for found in blocks if found.startswith("[secure]")]
    told = tomllib.loads(block)["secure"]
    assert SecurePlan.model_validate(told) == SecurePlan()
    assert {*told, "min_survivors"} == {*SecurePlan.model_fields}  # which is none: no TOML value
    assert {*told["quantiser"]} == {*QuantiserPlan.model_fields}
    assert {*told["metrics"]} == {*SummedMetrics.model_fields}
    assert "# min_survivors = " in block


def test_the_documented_strategies_of_secure_sums_are_all_of_them() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \|(?:[^|\n]*\|){6}([^|\n]*)\|$",
        (DOCS / "strategies.md").read_text(),
        re.MULTILINE,
    )
    told = {name: secure.strip() == "yes" for name, secure in rows}
    assert told == {name: it.weighing is not None for name, it in strategies().items()}


def json_examples() -> list[dict[str, Any]]:
    text = (DOCS / "protocol.md").read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
