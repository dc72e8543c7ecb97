"""The one way in which a delivery fails."""


class DeliveryError(Exception):
    """A message is not known to have arrived. `gone`: the receiver wants no more, ever."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
