"""The command line: clear errors, plan files, the stored login."""

import io
import json
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue

from hansa.cli import output, plans, secure_rounds, settings, watch
from hansa.cli.main import main
from hansa.errors import LocalError
from hansa_core import wire
from hansa_core.plans import parse_plan
from hansa_core.states import RoundKind, RoundState, RunState
from tests.unit.client.fake_hub import PASSWORD, SESSION_TOKEN, FakeHub, serving


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANSA_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("HANSA_SITE_DIR", str(tmp_path / "site"))
    for name in ("HANSA_URL", "HANSA_TOKEN", "HANSA_FEDERATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HANSA_DEBUG", "")  # so that what --debug sets is taken away again
    return tmp_path


def hansa(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hansa", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    return code if isinstance(code, int) else 0


def login(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, typed: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed + "\n"))
    return hansa(monkeypatch, "login", hub.url, "--email", "ada@example.org", "--password-stdin")


def test_login_keeps_a_token_that_only_its_owner_can_read(
    hub: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert login(monkeypatch, hub, PASSWORD) == 0
    capsys.readouterr()
    config = home / "config.json"
    assert config.stat().st_mode & 0o777 == 0o600
    assert json.loads(config.read_text())["token"] == SESSION_TOKEN
    assert hansa(monkeypatch, "federation", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [item["slug"] for item in listed] == ["alpha", "beta", "gamma"]


def test_wrong_password_stores_nothing(
    hub: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert login(monkeypatch, hub, "guess") == 1
    assert not (home / "config.json").exists()


def test_token_is_only_sent_to_the_hub_it_was_stored_for(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.save_config(settings.Config(url="https://hub.example", token=SESSION_TOKEN))
    monkeypatch.setenv("HANSA_URL", hub.url)
    with pytest.raises(LocalError, match="nobody is logged in"):
        settings.connect()


def test_unreachable_hub_is_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANSA_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HANSA_TOKEN", "x")
    assert hansa(monkeypatch, "whoami") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "hansa: cannot reach the hub at http://127.0.0.1:1: connection refused",
        "hint: is it running, and is the address right?",
    ]


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_URL", "not an address")
    monkeypatch.setattr(sys, "argv", ["hansa", "--debug", "whoami"])
    with pytest.raises(LocalError):
        main()


def test_table_shows_ids_in_full_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.print_table(("ID", "DIGEST"), [("i" * 36, "d" * 64), ("", None)], empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["i" * 36, "d" * 64]
    assert lines[2].split() == ["-", "-"]


def test_ambiguous_federation_lists_what_there_is(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.tokens.add("t")
    monkeypatch.setenv("HANSA_URL", hub.url)
    monkeypatch.setenv("HANSA_TOKEN", "t")
    assert hansa(monkeypatch, "run", "list") == 1
    assert "which federation? You see: alpha, beta, gamma" in capsys.readouterr().err


def test_enrolling_shows_the_fingerprint_and_what_comes_next(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("site", "enroll", hub.url, "invitation-1", "--name", "clinic-a")
    assert hansa(monkeypatch, *arguments) == 0
    told = capsys.readouterr().out
    assert hub.view().fingerprint in told
    assert "hansa site run" in told
    assert hansa(monkeypatch, "site", "status") == 0
    status = capsys.readouterr().out
    assert "clinic-a" in status
    assert "first-use" in status
    assert hansa(monkeypatch, "site", "peers", "mode", "pinned") == 0
    assert hansa(monkeypatch, "site", "status") == 0
    assert "pinned: only sites that you pinned" in capsys.readouterr().out


def test_running_without_an_enrolment_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hansa(monkeypatch, "site", "run", "--trainer", "a:b") == 1
    assert "hansa site enroll" in capsys.readouterr().err


def test_every_wrong_field_of_a_plan_is_named_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = home / "plan.toml"
    plan.write_text('name = "Bad Name"\nrounds = -1\n[cohort]\nmin_sitess = 2\n')
    assert hansa(monkeypatch, "run", "create", str(plan)) == 1
    told = capsys.readouterr().err
    for path in ("name", "model", "rounds", "cohort.min_sitess"):
        assert f"  {path}: " in told


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.toml", "a = 1\nrounds =\n", "line 2"),
        ("p.json", "[1]", "wanted a table"),
        ("p.toml", "\udcff", "is not toml"),
    ],
)
def test_unreadable_plan_file_says_why(home: Path, name: str, content: str, told: str) -> None:
    (home / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LocalError, match=told):
        plans.read_document(home / name)


def test_sparkline_spans_the_range_and_keeps_the_end() -> None:
    assert watch.sparkline([0.0, 3.0, 7.0]) == "▁▄█"
    assert len(watch.sparkline([2.0] * 100)) == watch.SPARK_WIDTH


def test_event_is_one_line_of_its_plain_values() -> None:
    event = wire.Event(
        id=1,
        kind="round.completed",
        run_id=uuid4(),
        at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        data={"round_number": 3, "sites": ["a"], "reason": "", "site_id": "018f"},
    )
    assert watch.event_line(event) == "03:04:05 round.completed round_number=3"


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        (
            "roster.confirmed",
            {"roster": "ab" * 32, "version": 2, "members": 4},
            "all 4 sites confirmed roster version 2",
        ),
        (
            "round.signing",
            {"survivors": 3, "participants": 4, "expires_at": "2026-01-03T03:04:05+00:00"},
            "the committee is asked to sign the sum of 3 of 4 sites until 2026-01-03 03:04Z",
        ),
        (
            "round.opening",
            {"survivors": 3},
            "a quorum signed; the committee is asked to open the sum of 3 sites",
        ),
        (
            "duty.refused",
            {"site_name": "oslo", "duty": "sign", "reason": "one set a round, for ever"},
            "oslo refuses to sign whose sum it is: one set a round, for ever",
        ),
    ],
)
def test_events_of_secure_rounds_are_told_in_words(
    kind: str, data: dict[str, JsonValue], told: str
) -> None:
    event = wire.Event(
        id=1,
        kind=kind,
        run_id=uuid4(),
        at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        data={"round_number": 3, **data},
    )
    assert watch.event_line(event) == f"03:04:05 {kind} round 3: {told}"


def a_secure_round(state: RoundState, **changes: Any) -> wire.RoundDetail:
    """A round of four sites, one of which dropped out."""
    told: dict[str, Any] = {
        "roster": "ab" * 32,
        "roster_version": 2,
        "members": 4,
        "participants": 4,
        "survivors": 3,
        "signatures": 1,
        "quorum": 3,
        "openings": 0,
        "threshold": 3,
        "waiting_for": [],
        "refusals": {},
        "transcript": None,
        "expires_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return wire.RoundDetail(
        id=uuid4(),
        run_id=uuid4(),
        number=3,
        kind=RoundKind.TRAIN,
        state=state,
        state_reason=None,
        base_checkpoint_id=uuid4(),
        checkpoint_id=None,
        deadline_at=datetime(2026, 1, 2, 4, tzinfo=UTC),
        created_at=datetime(2026, 1, 2, 3, tzinfo=UTC),
        closed_at=None,
        tasks=[],
        secure=wire.SecureRound.model_validate({**told, **changes}),
    )


@pytest.mark.parametrize(
    ("state", "changes", "told"),
    [
        (
            RoundState.SETUP,
            {"waiting_for": ["espoo", "oslo"]},
            "setting up roster version 2 of 4 sites; waiting for espoo, oslo until 2026-01-02 "
            "03:04Z",
        ),
        (RoundState.COLLECTING, {}, "roster version 2 of 4 sites; 4 take part"),
        (
            RoundState.SIGNING,
            {"waiting_for": ["oslo"], "expires_at": None},
            "signing the sum of 3 of 4 sites: 1 signatures, 3 needed; waiting for oslo",
        ),
        (
            RoundState.SIGNING,
            {"survivors": None, "signatures": 0},
            "signing a sum of up to 4 sites: 0 signatures, 3 needed",
        ),
        (
            RoundState.OPENING,
            {"openings": 2},
            "opening the sum of 3 of 4 sites: 2 openings, 3 needed",
        ),
        (RoundState.AGGREGATING, {}, "opened: the sum of 3 of 4 sites is added up"),
        (
            RoundState.COMPLETED,
            {"transcript": "cd" * 32},
            "the sum of 3 of 4 sites, transcript cdcdcdcdcdcdcdcd",
        ),
        (RoundState.CANCELLED, {}, "cancelled, no sum was taken of it"),
    ],
)
def test_the_phase_of_a_secure_round_is_told_in_words(
    state: RoundState, changes: dict[str, Any], told: str
) -> None:
    detail = a_secure_round(state, **changes)
    assert detail.secure is not None
    assert secure_rounds.phase(detail.state, detail.secure) == told


def test_secure_rounds_are_listed_with_their_transcripts_and_refusals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = {"refusals": {"oslo": "the model is another one"}}
    ended = {"signatures": 3, "openings": 3, "transcript": "cd" * 32}
    secure_rounds.show_rounds(
        [
            a_secure_round(RoundState.COMPLETED, **ended),
            a_secure_round(RoundState.SIGNING, **refused),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == f"3 2 3/4 3, 3 needed 3, 3 needed {'cd' * 32}".split()
    assert lines[3].split() == ["3", "2", "3/4", "1,", "3", "needed", "0,", "3", "needed", "-"]
    assert lines[4:] == [
        "round 3: signing the sum of 3 of 4 sites: 1 signatures, 3 needed",
        "round 3: oslo refuses: the model is another one",
    ]


def test_rounds_that_are_not_secure_add_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    plain = a_secure_round(RoundState.COMPLETED).model_copy(update={"secure": None})
    secure_rounds.show_rounds([plain])
    assert capsys.readouterr().out == ""


def test_watching_a_secure_round_shows_its_phase_and_who_refuses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    detail = a_secure_round(RoundState.SIGNING, refusals={"oslo": "another model"})
    run = wire.Run(
        id=uuid4(),
        federation_id=uuid4(),
        name="hidden",
        state=RunState.RUNNING,
        state_reason=None,
        plan=parse_plan({"name": "hidden", "model": "line", "rounds": 3}),
        plan_digest="ef" * 32,
        model_id=uuid4(),
        base_checkpoint_id=uuid4(),
        latest_checkpoint_id=uuid4(),
        rounds_completed=2,
        created_at=datetime(2026, 1, 2, 3, tzinfo=UTC),
        started_at=None,
        finished_at=None,
    )
    output.out.print(watch.render(watch.View(run, detail)))
    shown = capsys.readouterr().out
    assert "signing the sum of 3 of 4 sites: 1 signatures, 3 needed" in shown
    assert "oslo refuses: another model" in shown


def test_exit_code_says_how_the_run_ended() -> None:
    ends = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
    assert [watch.exit_code(state) for state in ends] == [0, 1, 2]
