"""HTTP for bulk bytes: chunks of files, without copying them more often than the kernel does.

The general client (transport.py) takes an answer apart in 64 KiB pieces and copies each one three
times, which costs ten times what receiving costs. Here the bytes go from the socket into the
caller's buffer, and from his pieces to the socket.

Invariants: as in transport.py, every call has a timeout and no other error than hansa.errors
leaves; a token is sent to the address it was made for only, because only the caller's headers
travel and nothing is redirected; a connection is used again only after its answer was read whole.
"""

import base64
import contextlib
import http.client
import ssl
import threading
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message

from hansa import __version__
from hansa.errors import BadAnswerError, UnreachableError

BUFFER_BYTES = 256 << 10  # of an answer at once: what stays in the processor's cache
MAX_IDLE = 8  # connections kept for one address
CONNECT_SECONDS = 10.0
HTTP_PROXY_PORT = 80
HTTPS_PORT = 443

Pieces = Callable[[], Iterable[bytes]]  # a body, which may be asked for again


class BulkResponse:
    """An answer whose body was not read yet."""

    def __init__(self, response: http.client.HTTPResponse, where: str) -> None:
        self._response = response
        self._where = where
        self.status = response.status
        self.reason = response.reason

    @property
    def headers(self) -> Message:
        """The answer's headers; names are in any case."""
        return self._response.headers

    def pieces(self) -> Iterator[memoryview]:
        """Yield the body in pieces, each good until the next one is asked for.

        Raises:
            UnreachableError: the connection was cut before the end.
        """
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while True:
            with _socket_errors(self._where):
                left = self._response.length
                count = self._response.readinto(buffer)
            if not count:
                if left:
                    raise UnreachableError(
                        f"the connection to {self._where} was cut, {left} bytes before the end"
                    )
                return
            yield buffer[:count]

    def read(self, most: int) -> bytes:
        """Return the whole body.

        Raises:
            BadAnswerError: it has more than `most` bytes.
            UnreachableError: the connection was cut before the end.
        """
        with _socket_errors(self._where):
            body = self._response.read(most + 1)
            left = self._response.length
        if len(body) > most:
            raise BadAnswerError(f"an answer of more than {most} bytes came, wanted fewer")
        if left:
            raise UnreachableError(
                f"the connection to {self._where} was cut, {left} bytes before the end"
            )
        return body

    @property
    def is_over(self) -> bool:
        """Whether the body was read to its end, and the connection is good for another request."""
        return self._response.isclosed() and not self._response.will_close


class BulkClient:
    """Connections to any address, kept by address. Safe to share between threads."""

    def __init__(self, *, timeout_seconds: float, tls: Callable[[], ssl.SSLContext]) -> None:
        self._timeout = timeout_seconds
        self._tls = tls
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], deque[http.client.HTTPConnection]] = {}
        self._open: set[http.client.HTTPConnection] = set()

    def close(self) -> None:
        """Close the connections, those in use too: whoever uses one fails."""
        with self._lock:
            found = list(self._open)
            self._open.clear()
            self._idle.clear()
        for connection in found:
            # A thread may wait in it: shutting down wakes it, closing alone does not.
            with contextlib.suppress(OSError):
                if connection.sock is not None:
                    connection.sock.shutdown(2)
            connection.close()

    @contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Pieces | None = None,
        wait_seconds: float = 0.0,
    ) -> Generator[BulkResponse]:
        """Yield the answer to one request, unread, whatever its status.

        A body's Content-Length is in `headers`.

        Raises:
            UnreachableError: no answer, or a cut one.
        """
        parts = urllib.parse.urlsplit(url)
        connection, response = self._ask(method, parts, headers, body, wait_seconds)
        keep = False
        try:
            yield response
            keep = response.is_over
        finally:
            self._give_back(connection, parts, keep=keep)

    def _ask(
        self,
        method: str,
        parts: urllib.parse.SplitResult,
        headers: Mapping[str, str],
        body: Pieces | None,
        wait_seconds: float,
    ) -> tuple[http.client.HTTPConnection, BulkResponse]:
        """Send the request and read the answer's head; once more where an idle connection died."""
        while True:
            connection, is_fresh = self._take(parts)
            try:
                response = self._ask_on(connection, method, parts, headers, body, wait_seconds)
            except UnreachableError as error:
                self._give_back(connection, parts, keep=False)
                if is_fresh or isinstance(error.__cause__, TimeoutError):
                    raise
            except BaseException:
                self._give_back(connection, parts, keep=False)
                raise
            else:
                return connection, response

    def _ask_on(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        parts: urllib.parse.SplitResult,
        headers: Mapping[str, str],
        body: Pieces | None,
        wait_seconds: float,
    ) -> BulkResponse:
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        if connection.sock is None:
            with _socket_errors(where):
                connection.connect()
        if connection.sock is not None:
            connection.sock.settimeout(self._timeout + wait_seconds)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        if _proxy_of(parts) and parts.scheme == "http":
            target = urllib.parse.urlunsplit(parts)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": f"hansa/{__version__}",
            "Accept-Encoding": "identity",
            **_proxy_headers(parts),
            **headers,
        }.items():
            connection.putheader(name, value)
        with _socket_errors(where):
            connection.endheaders()
        for piece in body() if body is not None else ():
            try:
                with _socket_errors(where):
                    connection.send(piece)
            except UnreachableError:
                # Refused before the last byte: the reason may be waiting.
                with contextlib.suppress(http.client.HTTPException, OSError):
                    return BulkResponse(connection.getresponse(), where)
                raise
        with _socket_errors(where):
            return BulkResponse(connection.getresponse(), where)

    def _take(self, parts: urllib.parse.SplitResult) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection and whether it is a new one."""
        with self._lock:
            idle = self._idle.get((parts.scheme, parts.netloc))
            if idle:
                return idle.pop(), False
            connection = self._connection(parts)
            self._open.add(connection)
            return connection, True

    def _connection(self, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        timeout = min(CONNECT_SECONDS, self._timeout)
        host, port = parts.hostname or "", parts.port
        proxy = _proxy_of(parts)
        if proxy is None:
            if parts.scheme == "https":
                return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls())
            return http.client.HTTPConnection(host, port, timeout=timeout)
        near, near_port = proxy.hostname or "", proxy.port or HTTP_PROXY_PORT
        if parts.scheme == "http":
            return http.client.HTTPConnection(near, near_port, timeout=timeout)
        tunnel = http.client.HTTPSConnection(near, near_port, timeout=timeout, context=self._tls())
        tunnel.set_tunnel(host, port or HTTPS_PORT, _credentials(proxy))
        return tunnel

    def _give_back(
        self,
        connection: http.client.HTTPConnection,
        parts: urllib.parse.SplitResult,
        *,
        keep: bool,
    ) -> None:
        with self._lock:
            if keep and connection in self._open:
                idle = self._idle.setdefault((parts.scheme, parts.netloc), deque())
                if len(idle) < MAX_IDLE:
                    idle.append(connection)
                    return
            self._open.discard(connection)
        connection.close()


def _proxy_of(parts: urllib.parse.SplitResult) -> urllib.parse.SplitResult | None:
    """Return the proxy that the environment names for an address."""
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    named = urllib.request.getproxies().get(parts.scheme)
    if not named:
        return None
    return urllib.parse.urlsplit(named if "://" in named else f"http://{named}")


def _proxy_headers(parts: urllib.parse.SplitResult) -> dict[str, str]:
    proxy = _proxy_of(parts)
    return _credentials(proxy) if proxy is not None and parts.scheme == "http" else {}


def _credentials(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user = urllib.parse.unquote(f"{proxy.username}:{proxy.password or ''}")
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


@contextmanager
def _socket_errors(where: str) -> Generator[None]:
    """Turn what a connection raises into UnreachableError."""
    try:
        yield
    except TimeoutError as error:
        raise UnreachableError(
            f"{where} does not answer in time", hint="is it running, and is the address right?"
        ) from error
    except (http.client.HTTPException, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreachableError(
            f"the connection to {where} failed: {reason or type(error).__name__}",
            hint="is it running, and is the address right?",
        ) from error
