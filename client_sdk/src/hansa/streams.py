"""Reading server-sent events (text/event-stream, as the HTML standard has it).

Memory is bounded by one message. An id without data moves the place to resume from and is told
like a message; comments are not.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass

from hansa.errors import BadAnswerError

MAX_MESSAGE = 4 << 20  # bytes of one message


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream."""

    id: str | None
    data: str  # empty: only the id is told


def read_messages(chunks: Iterable[bytes]) -> Generator[Message]:
    """Yield the messages of a stream; one that is cut off is dropped, as the standard wants.

    Raises:
        BadAnswerError: a message is longer than MAX_MESSAGE, or not UTF-8.
    """
    last_id: str | None = None
    data: list[str] = []
    size = 0
    for line in _lines(chunks):
        size += len(line)
        if size > MAX_MESSAGE:
            raise BadAnswerError(f"a message of an event stream has more than {MAX_MESSAGE} bytes")
        if not line:
            if data or last_id is not None:
                yield Message(last_id, "\n".join(data))
            last_id, data, size = None, [], 0
            continue
        name, _, value = _text(line).partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            last_id = value
        elif name == "data":
            data.append(value)


def _lines(chunks: Iterable[bytes]) -> Generator[bytes]:
    """Yield whole lines without their end, which is CR, LF or both."""
    pending = b""
    for chunk in chunks:
        pending += chunk
        if len(pending) > MAX_MESSAGE:
            raise BadAnswerError(f"a line of an event stream has more than {MAX_MESSAGE} bytes")
        # A CR at the very end may be the first half of a CRLF.
        whole = len(pending) - 1 if pending.endswith(b"\r") else len(pending)
        *lines, rest = pending[:whole].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        yield from lines
        pending = rest + pending[whole:]


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadAnswerError(f"an event stream has a line that is not UTF-8: {error}") from error
