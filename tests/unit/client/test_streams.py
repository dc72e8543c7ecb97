"""An event stream is read as the standard says, however its bytes are cut."""

import pytest

from hansa.errors import BadAnswerError
from hansa.streams import MAX_MESSAGE, Message, read_messages

STREAM = (
    b"retry: 2000\n\n: keep-alive\nid: 7\n\n"
    b'id: 8\nevent: run.started\ndata: {"a":\ndata: 1}\n\nid:9\r\ndata:\xc3\xa6\r\n\r\n'
    b"id: 10\ndata: x"
)
MESSAGES = [Message("7", ""), Message("8", '{"a":\n1}'), Message("9", "æ")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_are_the_same_however_the_bytes_come(size: int) -> None:
    chunks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert list(read_messages(chunks)) == MESSAGES  # and the one that was cut off is dropped


def test_an_endless_line_is_refused() -> None:
    with pytest.raises(BadAnswerError, match="more than"):
        list(read_messages([b"data: "] + [b"x" * 65536] * (MAX_MESSAGE // 65536 + 1)))


def test_an_endless_message_is_refused() -> None:
    with pytest.raises(BadAnswerError, match="more than"):
        list(read_messages([b"data: " + b"x" * 65536 + b"\n"] * (MAX_MESSAGE // 65536 + 1)))


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadAnswerError, match="UTF-8"):
        list(read_messages([b"data: \xff\n\n"]))
