"""A link that counts what passes, can be cut, and can damage bytes: a TCP proxy in threads."""

import contextlib
import socket
import threading
from collections.abc import Callable

BLOCK = 1 << 16
DEADLINE_SECONDS = 60.0
SPOILT_FROM = BLOCK // 4  # a shorter block may be a request's head, which has no checksum


class Link:
    """Listens while entered, and connects to `target` for each connection."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.sent = 0  # bytes that came from the client
        self.received = 0  # bytes that came from the hub
        self.spoilt = 0
        self._to_spoil = 0
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._server.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._moved = threading.Condition()
        self._closing = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Link":
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive()

    def cut(self) -> None:
        """End every connection; new ones are welcome."""
        with self._moved:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def spoil(self, blocks: int) -> None:
        """Flip a bit in the middle of so many of the next blocks that the client sends."""
        self._to_spoil += blocks

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Return once `reached()`, which looks at the counters."""
        with self._moved:
            assert self._moved.wait_for(reached, DEADLINE_SECONDS), (self.sent, self.received)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # no hub lives
                near.close()
                continue
            with self._moved:
                self._open |= {near, far}
            self._start(self._serve, near, far)

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(far, near, self._count_down), daemon=True)
        back.start()
        self._pump(near, far, self._count_up)
        back.join(DEADLINE_SECONDS)
        with self._moved:
            self._open -= {near, far}
        near.close()
        far.close()

    def _pump(
        self, source: socket.socket, sink: socket.socket, count: Callable[[bytes], bytes]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK):
                sink.sendall(count(data))
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _count_up(self, data: bytes) -> bytes:
        with self._moved:
            self.sent += len(data)
            if self._to_spoil and len(data) >= SPOILT_FROM:
                self._to_spoil -= 1
                self.spoilt += 1
                middle = len(data) // 2
                data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            self._moved.notify_all()
        return data

    def _count_down(self, data: bytes) -> bytes:
        with self._moved:
            self.received += len(data)
            self._moved.notify_all()
        return data
