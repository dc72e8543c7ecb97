"""Whose identity keys a site believes in, by mode; the consortium's list; the commands."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hansa.cli.main import main
from hansa.errors import LocalError
from hansa.identity import SiteRecord, open_state_dir, store_key
from hansa.secure.memberships import (
    ListedSite,
    Membership,
    SignedMembership,
    read_membership,
    sign_membership,
)
from hansa.secure.peers import Peers, PeersMode
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.messages import Member
from hansa_core.signing import (
    decode_base64,
    encode_base64,
    fingerprint,
    generate_private_key,
    public_key,
)
from tests.unit.client.secure.members import Other

FEDERATION = UUID(int=5)
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(tmp_path, clock=lambda: NOW)


def member(name: str) -> Member:
    return Other(name).line(uuid4(), 1)


def shown(it: Member) -> str:
    return fingerprint(decode_base64(it.identity_key))


def test_first_use_pins_what_is_new_and_refuses_what_has_changed(
    peers: Peers, tmp_path: Path
) -> None:
    oslo, bergen = member("oslo"), member("bergen")
    assert peers.book().doubt(oslo) is None
    assert peers.remember([oslo]) == [oslo]
    assert peers.remember([oslo, bergen]) == [bergen]
    assert (tmp_path / "peers.json").stat().st_mode & 0o777 == 0o600
    again = Peers(tmp_path)
    swapped = member("oslo")
    assert f"pinned is {shown(oslo)}" in (again.book().doubt(swapped) or "")
    with pytest.raises(SecaggRefusedError, match="oslo: its key has the fingerprint"):
        again.remember([swapped])
    again.unpin("oslo")
    assert again.remember([swapped]) == [swapped]


def test_pinned_trusts_what_an_operator_compared_and_nothing_seen(peers: Peers) -> None:
    oslo, bergen = member("oslo"), member("bergen")
    peers.remember([oslo])
    peers.set_mode(PeersMode.PINNED)
    assert "no operator has pinned" in (peers.book().doubt(oslo) or "")
    peers.pin("oslo", shown(oslo).upper())
    assert peers.book().doubt(oslo) is None
    assert "no operator has pinned" in (peers.book().doubt(bergen) or "")
    assert peers.remember([oslo]) == []


def test_what_an_operator_pinned_counts_in_every_mode(peers: Peers) -> None:
    oslo = member("oslo")
    peers.pin("oslo", shown(member("bergen")))
    listed(peers, [oslo])
    for mode in PeersMode:
        peers.set_mode(mode)
        assert "pinned is" in (peers.book().doubt(oslo) or "")


def listed(
    peers: Peers, members: list[Member], *, serial: int = 1, site_ids: bool = False
) -> SignedMembership:
    """Import a list of these members, signed by a consortium that is named now."""
    key = generate_private_key()
    lines = [
        ListedSite(
            site_name=it.site_name,
            fingerprint=shown(it),
            site_id=it.site_id if site_ids else None,
        )
        for it in members
    ]
    made = sign_membership(key, Membership(federation_id=FEDERATION, serial=serial, members=lines))
    peers.set_consortium(encode_base64(public_key(key)))
    peers.import_list(made.model_dump_json().encode(), federation_id=FEDERATION)
    return made


def test_consortium_trusts_its_list_whatever_was_seen_before(peers: Peers) -> None:
    oslo, bergen = member("oslo"), member("bergen")
    peers.remember([member("oslo")])  # another key, before the consortium had a list
    listed(peers, [oslo])
    peers.set_mode(PeersMode.CONSORTIUM)
    book = peers.book()
    assert book.doubt(oslo) is None
    assert "not on the consortium's list 1" in (book.doubt(bergen) or "")
    assert "on the consortium's list 1 it is" in (book.doubt(member("oslo")) or "")
    assert peers.remember([oslo]) == []


def test_a_list_may_name_site_ids(peers: Peers) -> None:
    oslo = member("oslo")
    listed(peers, [oslo], site_ids=True)
    peers.set_mode(PeersMode.CONSORTIUM)
    assert peers.book().doubt(oslo) is None
    moved = oslo.model_copy(update={"site_id": uuid4()})
    assert "its id is" in (peers.book().doubt(moved) or "")


def test_serial_numbers_of_lists_never_go_back(peers: Peers) -> None:
    key = generate_private_key()
    peers.set_consortium(encode_base64(public_key(key)))

    def take(serial: int, *names: str) -> None:
        lines = [ListedSite(site_name=it, fingerprint=shown(member(it))) for it in names]
        made = Membership(federation_id=FEDERATION, serial=serial, members=lines)
        content = sign_membership(key, made).model_dump_json().encode()
        peers.import_list(content, federation_id=FEDERATION)

    take(4, "oslo")
    for serial in (3, 4):
        with pytest.raises(LocalError, match=f"serial number {serial}, wanted one above 4"):
            take(serial, "oslo", "mallory")
    take(5)
    membership = peers.book().membership
    assert membership is not None
    assert (membership.serial, membership.members) == (5, [])


def test_a_list_of_another_federation_key_or_content_is_refused(peers: Peers) -> None:
    made = listed(peers, [member("oslo")])
    content = made.model_dump_json().encode()
    with pytest.raises(LocalError, match="is of federation"):
        peers.import_list(content, federation_id=uuid4())
    changed = content.replace(b'"serial":1', b'"serial":2')
    assert changed != content
    with pytest.raises(LocalError, match="not what was signed"):
        peers.import_list(changed, federation_id=FEDERATION)
    peers.set_consortium(encode_base64(public_key(generate_private_key())))
    with pytest.raises(LocalError, match="wanted the consortium's"):
        peers.import_list(content, federation_id=FEDERATION)
    assert peers.book().membership is None  # what another key signed does not count any more
    with pytest.raises(LocalError, match="no membership list"):
        read_membership(b"{}")
    with pytest.raises(ValueError, match="two members have the site_name oslo"):
        Membership(
            federation_id=FEDERATION,
            serial=1,
            members=[ListedSite(site_name="oslo", fingerprint=shown(member("x")))] * 2,
        )


def test_a_consortium_without_a_list_or_key_is_no_mode(peers: Peers) -> None:
    with pytest.raises(LocalError, match="needs the consortium's key"):
        peers.set_mode(PeersMode.CONSORTIUM)
    with pytest.raises(LocalError, match="key is not known here"):
        peers.import_list(b"{}", federation_id=FEDERATION)


def test_damaged_peers_are_an_error_and_never_first_use(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "peers.json").write_text("{")
    with pytest.raises(LocalError, match="is damaged"):
        peers.book()


# The commands


def hansa(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hansa", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    code = caught.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a site that enrolled in FEDERATION."""
    state = open_state_dir(tmp_path / "site", create=True)
    store_key(state.key_path, generate_private_key())
    state.save(
        SiteRecord(
            hub_url="http://127.0.0.1:1",
            site_id=uuid4(),
            site_name="visby",
            federation_id=FEDERATION,
            federation_slug="heart",
            fingerprint=shown(member("visby")),
        )
    )
    monkeypatch.setenv("HANSA_SITE_DIR", str(state.path))
    return state.path


def test_peers_are_listed_pinned_and_unpinned(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hansa(monkeypatch, "site", "peers") == 0
    assert "no other site is known yet" in capsys.readouterr().out
    wanted = shown(member("oslo"))
    Peers(site).remember([member("bergen")])
    assert hansa(monkeypatch, "site", "peers", "pin", "oslo", wanted) == 0
    assert hansa(monkeypatch, "site", "peers", "mode", "pinned") == 0
    capsys.readouterr()
    assert hansa(monkeypatch, "site", "peers") == 0
    out = capsys.readouterr().out
    assert "mode pinned: only sites that you pinned" in out
    bergen, oslo = out.splitlines()[2:]
    assert oslo.split()[:3] == ["oslo", wanted, "operator"]
    assert "refused: seen, never pinned by an operator" in bergen
    assert hansa(monkeypatch, "site", "peers", "unpin", "oslo") == 0
    capsys.readouterr()
    assert hansa(monkeypatch, "site", "peers", "--json") == 0
    assert [it["name"] for it in json.loads(capsys.readouterr().out)] == ["bergen"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pin", "oslo", "no-fingerprint"), "is no fingerprint"),
        (("pin", "No Name", "-".join(["abcd"] * 8)), "is no site's name"),
        (("unpin", "oslo"), "there is no pinned peer 'oslo'"),
        (("mode", "consortium"), "needs the consortium's key"),
        (("consortium", "c2hvcnQ"), "holds 5 bytes, wanted 32"),
    ],
)
def test_wrong_arguments_are_one_clear_line(
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    assert hansa(monkeypatch, "site", "peers", *arguments) == 1
    assert told in capsys.readouterr().err
    assert not (site / "peers.json").exists()


def test_a_consortium_from_its_key_to_a_list_in_force(
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key, file = tmp_path / "consortium.key", tmp_path / "list.json"
    assert hansa(monkeypatch, "consortium", "keygen", str(key)) == 0
    public = capsys.readouterr().out.splitlines()[0].split()[-1]
    assert key.stat().st_mode & 0o777 == 0o600
    assert hansa(monkeypatch, "consortium", "keygen", str(key)) == 1  # never overwritten
    oslo, bergen = member("oslo"), member("bergen")
    options = ("--key", str(key), "--federation", str(FEDERATION), "--serial", "1")
    capsys.readouterr()
    lines = (f"oslo={shown(oslo)}", f"bergen:{bergen.site_id}={shown(bergen)}")
    assert hansa(monkeypatch, "consortium", "sign", *options, *lines) == 0
    file.write_text(capsys.readouterr().out)
    assert hansa(monkeypatch, "consortium", "show", str(file)) == 0
    out = capsys.readouterr().out
    assert str(bergen.site_id) in out
    assert shown(oslo) in out
    assert hansa(monkeypatch, "site", "peers", "consortium", public) == 0
    assert hansa(monkeypatch, "site", "peers", "import", str(file)) == 0
    assert "list 1 of 2 sites is in force" in capsys.readouterr().out
    assert hansa(monkeypatch, "site", "peers", "mode", "consortium") == 0
    assert Peers(site).book().doubt(oslo) is None
    capsys.readouterr()
    assert hansa(monkeypatch, "site", "peers") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == [
        "bergen",
        "oslo",
    ]


@pytest.mark.parametrize("line", ["oslo", "oslo=nothing", "oslo:7=" + "-".join(["abcd"] * 8)])
def test_a_line_that_names_no_site_is_not_signed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    key = tmp_path / "consortium.key"
    store_key(key, generate_private_key())
    options = ("--key", str(key), "--federation", str(FEDERATION), "--serial", "1")
    assert hansa(monkeypatch, "consortium", "sign", *options, line) == 1
    assert capsys.readouterr().out == ""
