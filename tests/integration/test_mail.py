"""Alerts by e-mail, to a real SMTP server."""

import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.domain.alerts import AlertKind
from app.domain.clock import utc_now
from app.main import create_app
from app.senders.errors import DeliveryError
from app.senders.mail import MailServer, Security
from app.senders.outgoing import Outlets, send
from app.services import alerts, deliveries
from app.services.transactions import Transactions
from app.settings import Settings
from tests.factories import Federation, a_federation
from tests.receivers import certificate

SENDER = "hansa@hub.example"
PASSWORD = "p@ss/word"  # noqa: S105 -- needs encoding in a URL


@dataclass
class Mailbox:
    """What the server took."""

    mails: list[tuple[list[str], EmailMessage]] = field(
        default_factory=list[tuple[list[str], EmailMessage]]
    )
    refuse: bool = False

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuse:
            return "451 come back later"
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((list(envelope.rcpt_tos), mail))
        return "250 taken"


@contextmanager
def smtp(mailbox: Mailbox, **options: Any) -> Generator[int]:
    """Serve on a port in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # the controller cannot choose one by itself
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def settings(settings: Settings, mailbox: Mailbox) -> Generator[Settings]:
    with smtp(mailbox) as port:
        yield settings.model_copy(
            update={
                "smtp_url": SecretStr(f"smtp+plain://127.0.0.1:{port}"),
                "mail_from": SENDER,
                "public_url": "https://hub.example",
            }
        )


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def work_off(federation: Federation, settings: Settings, channel_id: str) -> None:
    """Do what the worker's task does, once."""
    now = utc_now()
    with federation.transactions.begin("lease") as tx:
        held = deliveries.lease(tx, UUID(channel_id), now=now, duration=timedelta(seconds=30))
    assert held is not None
    while True:
        with federation.transactions.begin("next") as tx:
            delivery = deliveries.next_delivery(tx, held)
        if delivery is None:
            return
        send(
            Outlets.from_settings(settings),
            held.destination,
            delivery.messages,
            message_id=delivery.message_id,
            now=now,
        )
        with federation.transactions.begin("delivered") as tx:
            assert deliveries.delivered(tx, held, delivery, now=now)


def test_alerts_that_came_together_are_one_mail(
    federation: Federation, settings: Settings, mailbox: Mailbox
) -> None:
    made = federation.post("/channels", {"kind": "email", "target": "ops@hospital.example"})
    assert (made["events"], made["secret"]) == (["alert.*"], None)
    for subject in ("oslo", "bergen"):
        with federation.transactions.begin("raise") as tx:
            tx.record("run.started", federation_id=federation.id)  # no alert: not told
            alerts.raise_alert(
                tx,
                AlertKind.SITE_EXCLUDED,
                federation_id=federation.id,
                subject=subject,
                message=f"{subject} sent rubbish\r\nBcc: evil@example.org",
                now=utc_now(),
            )
    work_off(federation, settings, made["id"])
    ((recipients, mail),) = mailbox.mails
    assert recipients == ["ops@hospital.example"]
    assert mail["From"] == f"Hansa <{SENDER}>"
    assert mail["Subject"] == "[nordic] 2 events"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Bcc"] is None
    text = mail.get_content()
    assert text.index("raised: site-excluded, oslo") < text.index("raised: site-excluded, bergen")
    assert "message: bergen sent rubbish Bcc: evil@example.org" in text
    assert "run.started" not in text
    assert "https://hub.example" in text
    work_off(federation, settings, made["id"])
    assert len(mailbox.mails) == 1


def test_a_server_that_says_later_is_quoted(federation: Federation, mailbox: Mailbox) -> None:
    made = federation.post("/channels", {"kind": "email", "target": "ops@hospital.example"})
    mailbox.refuse = True
    tried = federation.post(f"/channels/{made['id']}/test", expect=200)
    assert tried == {
        "delivered": False,
        "error": "the SMTP server answered 451 come back later",
    }
    mailbox.refuse = False
    assert federation.post(f"/channels/{made['id']}/test", expect=200)["delivered"]
    ((_, mail),) = mailbox.mails
    assert mail["Subject"] == "[nordic] channel.tested"


def test_without_a_server_an_email_channel_is_refused_and_says_why(
    federation: Federation, settings: Settings
) -> None:
    without = settings.model_copy(update={"smtp_url": SecretStr("")})
    with TestClient(create_app(without)) as client:
        answer = client.post(
            f"/v1/federations/{federation.slug}/channels",
            json={"kind": "email", "target": "ops@hospital.example"},
            headers=federation.owner.headers,
        )
    assert answer.status_code == 422
    assert "HANSA_SMTP_URL is not set" in answer.json()["detail"]


def test_mail_goes_over_starttls_with_a_password(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox
) -> None:
    authority, tls = certificate(tmp_path)

    def authenticate(*arguments: Any) -> AuthResult:
        told = arguments[4]
        assert isinstance(told, LoginPassword)
        return AuthResult(success=(told.login, told.password) == (b"hub", PASSWORD.encode()))

    with smtp(
        mailbox,
        tls_context=tls,
        require_starttls=True,
        authenticator=authenticate,
        auth_required=True,
    ) as port:
        secured = settings.model_copy(
            update={"smtp_url": SecretStr(f"smtp://hub:p%40ss%2Fword@localhost:{port}")}
        )

        def try_it() -> None:
            outlets = Outlets.from_settings(secured)
            message = deliveries.trial(UUID(int=1), "nordic", by="ada", now=utc_now())
            to = deliveries.Destination(deliveries.ChannelKind.EMAIL, "ops@hospital.example", None)
            send(outlets, to, [message], message_id="test", now=utc_now())

        with pytest.raises(DeliveryError, match="certificate"):
            try_it()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        try_it()
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(
    ("url", "sender", "reason"),
    [
        ("http://mail.example", SENDER, "starts with 'http'"),
        ("smtp://", SENDER, "names no host"),
        ("smtp+plain://u:secret@mail.example", SENDER, "in clear"),
        ("smtp://mail.example", "", "HANSA_MAIL_FROM"),
    ],
)
def test_a_wrong_server_says_why_and_quotes_no_password(url: str, sender: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        MailServer.from_url(url, sender=sender)
    assert "secret" not in str(raised.value)


def test_each_kind_of_security_has_its_port() -> None:
    ports = {
        security: MailServer.from_url(f"{security}://mail.example", sender=SENDER).port
        for security in Security
    }
    assert ports == {Security.STARTTLS: 587, Security.TLS: 465, Security.NONE: 25}
