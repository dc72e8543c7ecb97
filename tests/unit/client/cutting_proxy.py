"""A TCP proxy that cuts connections at an exact byte."""

import contextlib
import socket
import threading

from tests.unit.client.fake_hub import DEADLINE


class CuttingProxy:
    """Passes bytes on to a port; cuts a connection when it has passed so many, once per entry."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.cut_answers_after: list[int] = []  # bytes from the hub, for the next connections
        self.cut_requests_after: list[int] = []  # bytes to the hub
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "CuttingProxy":
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join(DEADLINE)
        self.cut_all()
        for thread in self._threads:
            thread.join(DEADLINE)
        for connection in self._open:
            connection.close()

    @property
    def connections(self) -> int:
        """How many were ever accepted."""
        return len(self._open) // 2

    def cut_all(self) -> None:
        """Cut every connection, idle ones too; one that is already cut stays so."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self._open += [near, far]
            up = self.cut_requests_after.pop(0) if self.cut_requests_after else None
            down = self.cut_answers_after.pop(0) if self.cut_answers_after else None
            for source, sink, limit in ((near, far, up), (far, near, down)):
                thread = threading.Thread(
                    target=self._pump, args=(source, sink, limit), daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def _pump(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if limit is not None and passed + len(data) > limit:
                    sink.sendall(data[: limit - passed])
                    self.cuts += 1
                    break
                sink.sendall(data)
                passed += len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
