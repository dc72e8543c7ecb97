"""Where a channel may point, and how long it waits between tries."""

from datetime import timedelta

import pytest

from app.domain.alerts import TRAITS, AlertKind, is_nearly_full
from app.domain.channels import (
    LONGEST_DELAY,
    delay,
    is_public,
    shown,
    wrong_with_email,
    wrong_with_url,
)
from hansa_core.wire import ChannelKind


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "1.1.1.1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep their machines' secrets
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",  # IPv4 in other clothes
        "::ffff:a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/", "wanted https"),
        ("ftp://example.org/", "wanted https"),
        ("example.org", "wanted https"),
        ("https:///hook", "no host"),
        ("https://user:secret@example.org/", "user"),
        ("https://example.org/#part", "fragment"),
        ("https://example.org/a b", "encode"),
        ("https://example.org/\r\nX: y", "encode"),
        ("https://example.org:0/", "port"),
        ("https://example.org:99999/", "no URL"),
        ("https://127.0.0.1/", "public internet"),
        ("https://[::1]/", "public internet"),
        ("https://[::ffff:10.0.0.1]:8443/", "public internet"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url: str, reason: str) -> None:
    assert reason in str(wrong_with_url(url, allow_private=False))


def test_usable_urls_pass() -> None:
    assert wrong_with_url("https://example.org:8443/hook?key=1", allow_private=False) is None
    assert wrong_with_url("http://127.0.0.1:9000/hook", allow_private=True) is None


@pytest.mark.parametrize(
    "address", ["a", "a@", "@b", "a b@c.org", "a@b,c@d", "A <a@b.org>", "a@b.org\r\nBcc: c@d"]
)
def test_what_is_more_than_one_plain_address_is_refused(address: str) -> None:
    assert wrong_with_email(address) is not None
    assert wrong_with_email("ops+alerts@hospital.example.org") is None


def test_the_wait_doubles_up_to_an_hour_and_jitters() -> None:
    assert [delay(n, 1.0).total_seconds() for n in (1, 2, 3)] == [5, 10, 20]
    assert delay(1, 0.0) == timedelta(seconds=2.5)
    assert delay(10_000, 1.0) == LONGEST_DELAY


def test_a_webhooks_path_may_be_a_secret_and_is_not_shown() -> None:
    assert shown(ChannelKind.WEBHOOK, "https://h.example/T0/B0/key?x=1") == "https://h.example"
    assert shown(ChannelKind.EMAIL, "ops@h.example") == "ops@h.example"


def test_every_kind_of_alert_has_its_traits() -> None:
    assert set(TRAITS) == set(AlertKind)


def test_a_store_at_the_limit_does_not_flutter() -> None:
    assert is_nearly_full(free=9, total=100, was=False)
    assert not is_nearly_full(free=11, total=100, was=False)
    assert is_nearly_full(free=11, total=100, was=True)
    assert not is_nearly_full(free=13, total=100, was=True)
