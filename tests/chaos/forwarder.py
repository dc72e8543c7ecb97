"""The one address that sites and people use: forwards TCP connections to a living hub replica.

It has a thread and an event loop of its own. Besides forwarding it can be the network that
fails: cut every connection, hold all bytes back for a while, or refuse to connect at all.
"""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
READ_BYTES = 1 << 16
CONNECT_SECONDS = 2.0


class Forwarder:
    """Listens on `port` while entered. Its methods may be called from any thread."""

    def __init__(self, port: int, replicas: Sequence[int]) -> None:
        self._port = port
        self._replicas = tuple(replicas)
        self._turns = count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder")
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()  # clear: bytes are held back
        self._passing.set()
        self._refusing = False
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """End every connection with a reset; new ones are welcome."""
        self._do(self._cut())

    def refuse(self, refusing: bool) -> None:
        """Cut every connection and, while `refusing`, each new one."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def hold(self, holding: bool) -> None:
        """Pass no byte on while `holding`; connections stay."""
        self._loop.call_soon_threadsafe(self._passing.clear if holding else self._passing.set)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self._port)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._passing.set()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            upstream = await self._connect()
        except OSError:
            writer.transport.abort()  # no replica lives
            return
        both = {writer, upstream[1]}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, upstream[1]))
                pumps.create_task(self._pump(upstream[0], writer))
        except* OSError:
            pass
        finally:
            self._open -= both
            for end in both:
                end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a replica, each first in its turn.

        A frozen one still connects (its kernel does): who got it waits until it goes on.
        """
        first = next(self._turns)
        for offset in range(len(self._replicas)):
            port = self._replicas[(first + offset) % len(self._replicas)]
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(HOST, port)
        raise ConnectionRefusedError("no replica listens")

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
