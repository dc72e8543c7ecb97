"""E-mail through one SMTP server: what happened, as text, several events in one message."""

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from enum import StrEnum
from typing import Self
from urllib.parse import unquote, urlsplit

from app.domain.channels import wrong_with_email
from app.senders.errors import DeliveryError
from hansa_core import wire

TIMEOUT_SECONDS = 10.0  # of each step of the conversation
MAX_VALUE = 500  # characters of one value in a message
MAX_SUBJECT = 120  # characters


class Security(StrEnum):
    """How the connection to the SMTP server is protected; also the URL's scheme."""

    STARTTLS = "smtp"
    TLS = "smtps"  # from the start
    NONE = "smtp+plain"  # of a relay on the hub's own network


_PORTS = {Security.STARTTLS: 587, Security.TLS: 465, Security.NONE: 25}


@dataclass(frozen=True, slots=True)
class MailServer:
    """The SMTP server that takes the hub's mail."""

    security: Security
    host: str
    port: int
    user: str | None
    password: str | None
    sender: str  # address

    @classmethod
    def from_url(cls, url: str, *, sender: str) -> Self:
        """Return the server of smtp://user:password@host:587.

        Raises:
            ValueError: the URL, or the sender, is not one. The URL's password is not quoted.
        """
        parts = urlsplit(url)
        if parts.scheme not in set(Security):
            raise ValueError(
                f"HANSA_SMTP_URL starts with {parts.scheme!r}, wanted {' or '.join(Security)}"
            )
        if not parts.hostname:
            raise ValueError("HANSA_SMTP_URL names no host, wanted smtp://user:password@host:587")
        security = Security(parts.scheme)
        if security is Security.NONE and parts.password:
            raise ValueError("HANSA_SMTP_URL has a password, which smtp+plain would send in clear")
        if wrong := wrong_with_email(sender):
            raise ValueError(f"HANSA_MAIL_FROM is {sender!r}: {wrong}")
        return cls(
            security=security,
            host=parts.hostname,
            port=parts.port or _PORTS[security],
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            sender=sender,
        )


def send(
    server: MailServer | None,
    address: str,
    messages: Sequence[wire.Notification],
    *,
    message_id: str,
    public_url: str,
    now: datetime,
) -> None:
    """Hand one e-mail with all of `messages` to the server.

    Raises:
        DeliveryError: there is no server, or it did not take the mail.
    """
    if server is None:
        raise DeliveryError("the hub has no SMTP server: HANSA_SMTP_URL is not set")
    mail = compose(
        address,
        messages,
        sender=server.sender,
        message_id=message_id,
        public_url=public_url,
        now=now,
    )
    try:
        with _open(server) as smtp:
            if server.user is not None:
                smtp.login(server.user, server.password or "")
            smtp.send_message(mail, from_addr=server.sender, to_addrs=[address])
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise DeliveryError(
            f"the SMTP server answered {error.smtp_code} {text[:MAX_VALUE]}"
        ) from error
    except smtplib.SMTPRecipientsRefused as error:
        code, said = error.recipients[address]
        raise DeliveryError(
            f"the SMTP server refused {address}: {code} {said.decode('utf-8', 'replace')}"
        ) from error
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(f"the SMTP server at {server.host} failed: {error}") from error


def compose(
    address: str,
    messages: Sequence[wire.Notification],
    *,
    sender: str,
    message_id: str,
    public_url: str,
    now: datetime,
) -> EmailMessage:
    """Return an e-mail that tells `messages`, oldest first."""
    first = messages[0]
    subject = _headline(first) if len(messages) == 1 else f"{len(messages)} events"
    mail = EmailMessage()
    mail["From"] = f"Hansa <{sender}>"
    mail["To"] = address
    mail["Subject"] = _line(f"[{first.federation}] {subject}", MAX_SUBJECT)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message_id}@{sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    told = "\n\n".join(_told(message) for message in messages)
    mail.set_content(f"{told}\n\n-- \nHansa, federation {first.federation}: {public_url}\n")
    return mail


def _headline(message: wire.Notification) -> str:
    data = message.data.data
    if "alert" in data:
        return f"{message.type.removeprefix('alert.')}: {data['alert']}, {data.get('subject')}"
    return message.type


def _told(message: wire.Notification) -> str:
    event = message.data
    lines = [f"{event.at:%Y-%m-%d %H:%M:%S} UTC  {_headline(message)}"]
    if event.run_id is not None:
        lines.append(f"  run: {event.run_id}")
    lines += [
        f"  {name}: {_line(str(value), MAX_VALUE)}"
        for name, value in event.data.items()
        if value not in (None, "")
    ]
    return "\n".join(lines)


def _line(text: str, longest: int) -> str:
    """Return a text as one line: it may quote what a site said."""
    shown = " ".join(text.split())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _open(server: MailServer) -> smtplib.SMTP:
    if server.security is Security.TLS:
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=context)
    smtp = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)
    if server.security is Security.STARTTLS:
        try:
            smtp.starttls(context=ssl.create_default_context())
        except (smtplib.SMTPException, OSError):
            smtp.close()
            raise
    return smtp
