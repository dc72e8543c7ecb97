"""The command line: clear errors, plan files, the stored login."""

import io
import json
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from hansa.cli import output, plans, settings, watch
from hansa.cli.main import main
from hansa.errors import LocalError
from hansa_core import wire
from hansa_core.states import RunState
from tests.unit.client.fake_hub import PASSWORD, SESSION_TOKEN, FakeHub, serving


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANSA_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("HANSA_SITE_DIR", str(tmp_path / "site"))
    for name in ("HANSA_URL", "HANSA_TOKEN", "HANSA_FEDERATION", "HANSA_DEBUG"):
        monkeypatch.delenv(name, raising=False)
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
    assert "clinic-a" in capsys.readouterr().out


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


def test_exit_code_says_how_the_run_ended() -> None:
    ends = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
    assert [watch.exit_code(state) for state in ends] == [0, 1, 2]
