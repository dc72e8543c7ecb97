"""A federation's alerts at a hub, and the channels that its events are sent to."""

from collections.abc import Iterator
from uuid import UUID

from hansa.calls import Calls, within
from hansa_core import wire


class Notices:
    """Alerts and channels of one federation. Every method raises HansaError."""

    def __init__(self, calls: Calls, federation: str) -> None:
        self._calls = calls
        self._federation = federation

    def alerts(self, *, is_open: bool | None = None) -> Iterator[wire.Alert]:
        """Yield the alerts, newest first; `is_open`: only open or only resolved ones."""
        wanted = None if is_open is None else str(is_open).lower()
        return self._calls.pages(self._at("alerts"), wire.Alert, {"open": wanted})

    def acknowledge(self, alert_id: UUID) -> wire.Alert:
        """Note that I look after an alert."""
        return self._calls.post(self._at("alerts", alert_id, "acknowledge"), wire.Alert)

    def channels(self) -> Iterator[wire.Channel]:
        """Yield where the events are sent."""
        return self._calls.pages(self._at("channels"), wire.Channel)

    def create_channel(self, message: wire.ChannelCreate) -> wire.NewChannel:
        """Send events somewhere; a webhook's secret is shown this once."""
        return self._calls.post(self._at("channels"), wire.NewChannel, message)

    def change_channel(self, channel_id: UUID, change: wire.ChannelChange) -> wire.Channel:
        """Change the fields of a channel that `change` sets."""
        return self._calls.patch(self._at("channels", channel_id), wire.Channel, change)

    def remove_channel(self, channel_id: UUID) -> None:
        """Send nothing more to a channel."""
        self._calls.delete(self._at("channels", channel_id))

    def try_channel(self, channel_id: UUID) -> wire.ChannelTest:
        """Send a channel a message now, and return what became of it."""
        return self._calls.post(self._at("channels", channel_id, "test"), wire.ChannelTest)

    def _at(self, *rest: object) -> str:
        return within(self._federation, *rest)
