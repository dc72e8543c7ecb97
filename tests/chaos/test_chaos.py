"""The fault harness itself, in short; `make chaos FAULTS=200` is the long one."""

from collections import Counter
from pathlib import Path

import psutil
import pytest

from hansa.secure.journal import SecureJournal
from hansa_core.secagg.errors import SecaggRefusedError
from tests.chaos import logs
from tests.chaos.__main__ import describe, show
from tests.chaos.faults import NETWORK, STORE, Kind, draw_faults
from tests.chaos.harness import run_chaos
from tests.chaos.runs import plans
from tests.chaos.secure import second_answers
from tests.unit.client.secure.test_journal import header_of, masked

SEED = 3
PARTS = ("postgres", "valkey", "hub-1", "hub-2", "worker-1", "worker-2", "beat", "site-1", "site-2")
LEASE_SECONDS = 4.0


def test_faults_at_random_moments_change_nothing_but_the_time() -> None:
    """Also: whatever was started is gone afterwards."""
    before = set(psutil.Process().children(recursive=True))
    outcome = run_chaos(SEED, 12, show, chosen=plans()[:2])
    if not outcome.is_good:
        describe(outcome, show)
    assert outcome.violations == []
    assert outcome.struck.total() == 12
    assert outcome.runs >= 1
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_seed_draws_the_same_faults_again() -> None:
    first = draw_faults(7, 100, PARTS, lease_seconds=LEASE_SECONDS)
    assert draw_faults(7, 100, PARTS, lease_seconds=LEASE_SECONDS) == first
    assert draw_faults(8, 100, PARTS, lease_seconds=LEASE_SECONDS) != first
    assert draw_faults(7, 50, PARTS, lease_seconds=LEASE_SECONDS) == first[:50]


def test_two_hundred_faults_hit_everything_in_every_way() -> None:
    faults = draw_faults(8, 200, PARTS, lease_seconds=LEASE_SECONDS)
    assert {fault.part for fault in faults} == {*PARTS, NETWORK, STORE}
    assert {fault.kind for fault in faults} == set(Kind)
    freezes = [fault.seconds for fault in faults if fault.kind is Kind.FREEZE]
    assert min(freezes) < 1
    assert max(freezes) > LEASE_SECONDS
    assert any(fault.moment.seconds == 0 for fault in faults)  # two at once
    assert any(fault.moment.event for fault in faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all is well\n", {}),
        ('Traceback (most recent call last):\n  File "a.py"\nValueError: no\n', {"ValueError": 1}),
        ("Traceback (most recent call last):\n  x\na.b.OddError\n", {"a.b.OddError": 1}),
        (
            "Traceback (most recent call last):\n  x\nKeyError: 1\n\n"
            "During handling of the above exception, another exception occurred:\n\n"
            "Traceback (most recent call last):\n  y\na.OuterError: 2\n",
            {"a.OuterError": 1},
        ),
        (
            "Traceback (most recent call last):\n  x\nbilliard.einfo.ExceptionWithTraceback: \n"
            '"""\nTraceback (most recent call last):\n  x\nb.LostError: 3\n"""\n',
            {"b.LostError": 1},
        ),
    ],
)
def test_a_log_is_read_for_the_exceptions_that_were_not_met(
    text: str, expected: dict[str, int]
) -> None:
    assert logs.exceptions_in(text) == Counter(expected)


def test_a_second_answer_is_found_in_a_sites_log(tmp_path: Path) -> None:
    """In the words of the journal itself; to be late for a sum is no second answer."""
    journal, header, late = SecureJournal(tmp_path), header_of(1), header_of(1, round_id=2)
    journal.use(header, masked())
    journal.sign(header, (0, 1, 2))
    journal.sign(late, (0, 1))
    told: list[str] = ["12:00:00 delivered"]
    for refused in (
        lambda: journal.use(late, masked()),
        lambda: journal.use(header, masked("e" * 64)),
        lambda: journal.sign(header, (0, 1)),
        lambda: journal.open(header, (1, 2)),
        lambda: journal.sign(header_of(2), (0, 1, 2)),
    ):
        with pytest.raises(SecaggRefusedError) as error:
            refused()
        told.append(f"12:00:00 this site refuses round 1: {error.value}")
    log = tmp_path / "site-1.log"
    log.write_text("\n".join(told))
    assert second_answers(log) == told[2:]
