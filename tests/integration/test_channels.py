"""Webhooks and e-mail: in order, at least once, signed, patient, and given up in the end."""

from collections.abc import Generator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.domain.alerts import AlertKind
from app.domain.channels import GIVE_UP_AFTER, WARN_AFTER
from app.domain.clock import utc_now
from app.main import create_app
from app.senders import webhooks
from app.senders.errors import DeliveryError
from app.senders.outgoing import Outlets, send
from app.services import alerts, deliveries
from app.services.clock import DatabaseClock
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.states import Role
from tests.factories import Federation, a_federation
from tests.identities import add_member, events_of, make_person
from tests.receivers import Receiver, certificate, receiving
from tests.workers import worker_of

LONG = timedelta(hours=2)  # more than any wait between tries


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_allow_private": True})


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def receiver() -> Generator[Receiver]:
    with receiving() as opened:
        yield opened


class AheadClock(DatabaseClock):
    """The database's clock, put forward."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


class Worker:
    """The worker's own tasks in this process, with a clock that can be put forward."""

    def __init__(self, tasks: ModuleType, clock: AheadClock) -> None:
        self._tasks = tasks
        self._clock = clock

    def now(self) -> datetime:
        return utc_now() + self._clock.ahead

    def wait(self, time: timedelta) -> None:
        self._clock.ahead += time

    def deliver(self, channel_id: str) -> None:
        self._tasks.deliver(channel_id)


@pytest.fixture
def worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Generator[Worker]:
    monkeypatch.setenv("HANSA_WEBHOOK_ALLOW_PRIVATE", "true")
    with worker_of(settings, monkeypatch):
        from worker.runtime import runtime  # noqa: PLC0415 -- it reads the environment
        from worker.tasks import notifications  # noqa: PLC0415

        clock = AheadClock()
        env = runtime()
        later = replace(env, transactions=replace(env.transactions, clock=clock))
        monkeypatch.setattr(notifications, "runtime", lambda: later)
        yield Worker(notifications, clock)


def a_webhook(federation: Federation, receiver: Receiver, *events: str) -> dict[str, Any]:
    body = {"kind": "webhook", "target": f"{receiver.url}/hook", "events": list(events)}
    return federation.post("/channels", body)


def record(federation: Federation, *kinds: str) -> None:
    for kind in kinds:
        with federation.transactions.begin("record") as tx:
            tx.record(kind, federation_id=federation.id)


def the_channel(federation: Federation) -> dict[str, Any]:
    (channel,) = federation.get("/channels")["items"]
    return channel


def due(federation: Federation, now: datetime) -> list[str]:
    with federation.transactions.begin("due") as tx:
        return [str(channel_id) for channel_id in deliveries.due(tx, now=now)]


def test_a_receiver_that_fails_twice_gets_everything_in_order_and_signed(
    federation: Federation, receiver: Receiver, worker: Worker
) -> None:
    made = a_webhook(federation, receiver, "test.*")
    record(federation, "test.a", "other.x", "test.b", "test.c")
    receiver.answers.extend([503, 500])
    worker.deliver(made["id"])
    worker.deliver(made["id"])  # not due: nothing is sent
    assert receiver.kinds == ["test.a"]
    failing = the_channel(federation)
    assert failing["failures"] == 1
    assert "503" in failing["last_error"]
    assert due(federation, worker.now()) == []
    worker.wait(timedelta(seconds=6))
    assert due(federation, worker.now()) == [made["id"]]
    worker.deliver(made["id"])
    assert the_channel(federation)["failures"] == 2
    worker.wait(timedelta(seconds=11))
    worker.deliver(made["id"])
    assert receiver.kinds == ["test.a", "test.a", "test.a", "test.b", "test.c"]
    assert len({post.id for post in receiver.received}) == 3  # a repeat has the first one's id
    works = the_channel(federation)
    assert (works["failures"], works["last_error"], works["failing_since"]) == (0, None, None)
    assert works["last_success_at"] is not None
    for post in receiver.received:
        assert post.path == "/hook"
        assert post.headers["content-type"] == "application/json"
        assert post.headers["webhook-signature"] == post.signature_by(made["secret"])
        assert post.message["federation"] == federation.slug
        assert post.message["data"]["kind"] == post.message["type"]
        assert post.id == f"evt_{post.message['data']['id']}"
    assert due(federation, worker.now()) == []


def test_a_killed_workers_message_comes_again_and_none_is_lost(
    federation: Federation, receiver: Receiver, worker: Worker, settings: Settings
) -> None:
    made = a_webhook(federation, receiver, "test.*")
    record(federation, "test.a", "test.b")
    with federation.transactions.begin("lease") as tx:
        dead = deliveries.lease(
            tx, UUID(made["id"]), now=worker.now(), duration=timedelta(seconds=30)
        )
        assert dead is not None
        delivery = deliveries.next_delivery(tx, dead)
        assert delivery is not None
    outlets = Outlets.from_settings(settings)
    send(
        outlets,
        dead.destination,
        delivery.messages,
        message_id=delivery.message_id,
        now=worker.now(),
    )  # and dies before it could say so
    worker.deliver(made["id"])
    assert receiver.kinds == ["test.a"]  # the lease is held
    worker.wait(timedelta(seconds=31))
    worker.deliver(made["id"])
    assert receiver.kinds == ["test.a", "test.a", "test.b"]
    with federation.transactions.begin("late") as tx:  # it was only slow
        assert not deliveries.delivered(tx, dead, delivery, now=worker.now())
        deliveries.failed(tx, dead, reason="late", gone=False, now=worker.now(), draw=0.5)
    assert the_channel(federation)["failures"] == 0
    worker.deliver(made["id"])
    assert len(receiver.received) == 3


def test_days_of_failing_disable_a_channel_with_an_alert(
    federation: Federation, receiver: Receiver, worker: Worker
) -> None:
    made = a_webhook(federation, receiver, "test.*")
    receiver.always = 500
    record(federation, "test.a")
    for _ in range(WARN_AFTER):
        worker.deliver(made["id"])
        worker.wait(LONG)
    (alert,) = federation.get("/alerts", open=True)["items"]
    assert (alert["kind"], alert["severity"]) == ("channel-failing", "warning")
    assert "/hook" not in alert["message"]  # a path may be a secret
    worker.wait(GIVE_UP_AFTER)
    worker.deliver(made["id"])
    assert not the_channel(federation)["enabled"]
    (alert,) = federation.get("/alerts", open=True)["items"]
    assert alert["severity"] == "critical"
    assert "channel.disabled" in [
        kind for kind, _ in events_of(federation.transactions, federation.id)
    ]
    worker.wait(LONG)
    assert due(federation, worker.now()) == []
    receiver.always = 204
    owner, path = federation.owner.headers, f"/v1/federations/nordic/channels/{made['id']}"
    answer = federation.client.patch(path, json={"enabled": True}, headers=owner)
    assert answer.status_code == 200, answer.text
    assert federation.get("/alerts", open=True)["items"] == []
    worker.deliver(made["id"])
    assert receiver.kinds == ["test.a"] * (WARN_AFTER + 2)
    assert the_channel(federation)["failures"] == 0


def test_a_receiver_that_is_gone_for_good_is_not_asked_again(
    federation: Federation, receiver: Receiver, worker: Worker
) -> None:
    made = a_webhook(federation, receiver, "*")
    receiver.answers.append(410)
    record(federation, "test.a")
    worker.deliver(made["id"])
    assert not the_channel(federation)["enabled"]
    assert len(receiver.received) == 1


def test_a_redirect_is_not_followed(federation: Federation, receiver: Receiver) -> None:
    made = a_webhook(federation, receiver, "*")
    receiver.answers.append(302)
    tried = federation.post(f"/channels/{made['id']}/test", expect=200)
    assert not tried["delivered"]
    assert "redirects are not followed" in tried["error"]
    assert [post.path for post in receiver.received] == ["/hook"]
    tried = federation.post(f"/channels/{made['id']}/test", expect=200)
    assert tried == {"delivered": True, "error": None}
    assert receiver.kinds == ["channel.tested"] * 2
    assert receiver.received[1].headers["webhook-signature"] == receiver.received[1].signature_by(
        made["secret"]
    )


def test_a_change_takes_the_channel_from_whoever_delivers(
    federation: Federation, receiver: Receiver, worker: Worker
) -> None:
    made = a_webhook(federation, receiver, "test.*")
    record(federation, "test.a")
    with federation.transactions.begin("lease") as tx:
        held = deliveries.lease(
            tx, UUID(made["id"]), now=worker.now(), duration=timedelta(seconds=30)
        )
        assert held is not None
        delivery = deliveries.next_delivery(tx, held)
        assert delivery is not None
    path = f"/v1/federations/nordic/channels/{made['id']}"
    headers = federation.owner.headers
    change = {"target": f"{receiver.url}/new"}
    assert federation.client.patch(path, json=change, headers=headers).status_code == 200
    with federation.transactions.begin("late") as tx:
        assert not deliveries.delivered(tx, held, delivery, now=worker.now())
        assert not deliveries.renew(tx, held, now=worker.now(), duration=LONG)
    worker.deliver(made["id"])
    assert [post.path for post in receiver.received] == ["/new"]
    assert federation.client.delete(path, headers=headers).status_code == 204
    record(federation, "test.b")
    worker.deliver(made["id"])
    assert len(receiver.received) == 1


def test_an_alert_sends_a_worker_to_the_channels_at_once(
    federation: Federation, receiver: Receiver
) -> None:
    made = a_webhook(federation, receiver, "alert.*")
    with federation.transactions.begin("raise") as tx:
        alerts.raise_alert(
            tx,
            AlertKind.SITE_EXCLUDED,
            federation_id=federation.id,
            subject="oslo",
            message="why",
            now=utc_now(),
        )
    assert [(job.task, str(job.subject)) for job in tx.jobs] == [("hansa.deliver", made["id"])]


def test_a_webhook_over_tls_has_to_prove_its_name(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = certificate(tmp_path)
    with receiving(tls) as receiver:
        made = a_webhook(federation, receiver, "*")
        path = f"/channels/{made['id']}/test"
        tried = federation.post(path, expect=200)
        assert "certificate is not trusted" in str(tried["error"])
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        webhooks._tls.cache_clear()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- reads it once
        try:
            assert federation.post(path, expect=200)["delivered"]
        finally:
            webhooks._tls.cache_clear()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        assert receiver.kinds == ["channel.tested"]


def test_private_addresses_are_refused_when_made_and_when_connected_to(
    federation: Federation, settings: Settings
) -> None:
    strict = settings.model_copy(update={"webhook_allow_private": False})
    with TestClient(create_app(strict)) as client:
        for target in ("http://example.org/", "https://10.0.0.1/", "https://u:p@example.org/"):
            answer = client.post(
                f"/v1/federations/{federation.slug}/channels",
                json={"kind": "webhook", "target": target},
                headers=federation.owner.headers,
            )
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["path"] == "target"
    with pytest.raises(DeliveryError, match=r"localhost is .*, no address of the public internet"):
        webhooks.post(
            "https://localhost/",
            b"{}",
            secret="whsec_AAAA",  # noqa: S106
            message_id="test",
            now=utc_now(),
            allow_private=False,
        )


def test_channels_are_for_owners_and_their_secret_is_shown_once(
    federation: Federation, receiver: Receiver, transactions: Transactions
) -> None:
    body = {"kind": "webhook", "target": f"{receiver.url}/hook"}
    made = federation.post("/channels", body, key="one")
    assert made["events"] == ["*"]
    again = federation.post("/channels", body, key="one", expect=409)
    assert again["slug"] == "secret-already-shown"
    assert "secret" not in the_channel(federation)
    operator = make_person(transactions, "olga@example.org")
    add_member(federation.client, federation.owner, federation.slug, operator, Role.OPERATOR)
    path = f"/v1/federations/{federation.slug}/channels"
    for answer in (
        federation.client.get(path, headers=operator.headers),
        federation.client.post(path, json=body, headers=operator.headers),
        federation.client.post(f"{path}/{made['id']}/test", headers=operator.headers),
        federation.client.delete(f"{path}/{made['id']}", headers=operator.headers),
    ):
        assert answer.status_code == 403


@pytest.mark.parametrize("pattern", ["", "alert", "*.raised", "alert.*.x", "Alert.*", "a" * 100])
def test_only_kinds_and_prefixes_are_patterns(
    federation: Federation, receiver: Receiver, pattern: str
) -> None:
    body = {"kind": "webhook", "target": receiver.url, "events": [pattern]}
    if pattern == "alert":
        federation.post("/channels", body)  # a kind of one word: legal, and matches nothing yet
    else:
        assert federation.post("/channels", body, expect=422)["slug"] == "invalid-request"


def test_a_receiver_that_dawdles_is_cut_off_at_the_deadline() -> None:
    import socket  # noqa: PLC0415
    import threading  # noqa: PLC0415
    from time import monotonic  # noqa: PLC0415

    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def dawdle() -> None:
        connection, _ = listener.accept()
        with connection:
            while not ended.wait(0.05):  # a byte at a time keeps any timeout of a read away
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=dawdle)
    thread.start()
    began = monotonic()
    try:
        with pytest.raises(DeliveryError, match=r"no answer within 0\.5 s"):
            webhooks.post(
                f"http://127.0.0.1:{listener.getsockname()[1]}/",
                b"{}",
                secret="whsec_AAAA",  # noqa: S106
                message_id="test",
                now=utc_now(),
                allow_private=True,
                timeout_seconds=0.5,
            )
    finally:
        ended.set()
        thread.join()
        listener.close()
    assert monotonic() - began < 10
