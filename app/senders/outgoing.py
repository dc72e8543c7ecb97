"""What is sent, to whom and by which means: one call for every kind of channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, assert_never

from app.senders import mail, webhooks
from app.senders.mail import MailServer
from app.settings import Settings
from hansa_core import wire
from hansa_core.wire import ChannelKind


@dataclass(frozen=True, slots=True)
class Outlets:
    """What this hub can send with."""

    mail: MailServer | None  # None: no SMTP server is configured
    webhook_allow_private: bool
    public_url: str

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the settings' outlets.

        Raises:
            ValueError: the SMTP URL or the sender's address is not one.
        """
        url = settings.smtp_url.get_secret_value()
        server = MailServer.from_url(url, sender=settings.mail_from) if url else None
        return cls(server, settings.webhook_allow_private, settings.public_url)


@dataclass(frozen=True, slots=True)
class Destination:
    """One channel, as a sender needs it."""

    kind: ChannelKind
    target: str
    secret: str | None  # of a webhook


def send(
    outlets: Outlets,
    destination: Destination,
    messages: Sequence[wire.Notification],
    *,
    message_id: str,
    now: datetime,
) -> None:
    """Deliver messages: one to a webhook, one or more in a single e-mail.

    Raises:
        DeliveryError: it is not known to have arrived; the message says why.
    """
    match destination.kind:
        case ChannelKind.WEBHOOK:
            (message,) = messages
            assert destination.secret is not None
            webhooks.post(
                destination.target,
                message.model_dump_json().encode(),
                secret=destination.secret,
                message_id=message_id,
                now=now,
                allow_private=outlets.webhook_allow_private,
            )
        case ChannelKind.EMAIL:
            mail.send(
                outlets.mail,
                destination.target,
                messages,
                message_id=message_id,
                public_url=outlets.public_url,
                now=now,
            )
        case _:
            assert_never(destination.kind)
