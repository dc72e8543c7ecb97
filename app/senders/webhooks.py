"""One signed POST to somebody else's address.

Who configures a webhook chooses where the hub connects to, so: the host is looked up once, every
address is checked, and the connection goes to a checked one; no redirect is followed, no proxy
asked; the whole exchange has one deadline, and of the answer no more than its head is read.

The standard library's client, not httpx2, because it can be given a socket that is already
connected: there is no second look-up that could answer differently.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cache
from http import HTTPStatus
from urllib.parse import urlsplit

from app.domain.channels import is_public, wrong_with_url
from app.senders.errors import DeliveryError
from hansa_core.webhooks import sign

TIMEOUT_SECONDS = 10.0  # of the whole exchange
USER_AGENT = "Hansa-Webhooks/1"
PORTS = {"https": 443, "http": 80}


def post(
    url: str,
    body: bytes,
    *,
    secret: str,
    message_id: str,
    now: datetime,
    allow_private: bool,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Send one message and return once it was taken (2xx).

    Raises:
        DeliveryError: refused, redirected, unreachable, not allowed or not in time.
    """
    if wrong := wrong_with_url(url, allow_private=allow_private):
        raise DeliveryError(f"the URL cannot be used: {wrong}")
    parts = urlsplit(url)
    host = parts.hostname or ""
    deadline = time.monotonic() + timeout_seconds
    headers = {
        "Host": parts.netloc,
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
        "Connection": "close",
        **sign(secret, message_id=message_id, at=now, body=body),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        addresses = _look_up(host, parts.port or PORTS[parts.scheme], allow_private=allow_private)
        with closing(_connect(addresses, deadline)) as plain:
            secured = _secure(plain, host) if parts.scheme == "https" else plain
            with closing(secured), _cut_at(secured, deadline) as is_cut:
                try:
                    if isinstance(secured, ssl.SSLSocket):
                        secured.do_handshake()
                    status, reason = _exchange(secured, host, target, body, headers)
                except (OSError, http.client.HTTPException) as error:
                    if is_cut.is_set():
                        raise DeliveryError(f"no answer within {timeout_seconds:g} s") from error
                    raise
    except ssl.SSLCertVerificationError as error:
        raise DeliveryError(f"its certificate is not trusted: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryError(_reason(error, timeout_seconds)) from error
    _require_taken(status, reason)


def _look_up(host: str, port: int, *, allow_private: bool) -> list[tuple[str, int]]:
    """Return where to connect to, every address checked. Raises OSError, DeliveryError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((str(entry[4][0]), port) for entry in found))
    for address, _ in addresses:
        if not (allow_private or is_public(address)):
            raise DeliveryError(f"{host} is {address}, no address of the public internet")
    return addresses


def _connect(addresses: list[tuple[str, int]], deadline: float) -> socket.socket:
    """Return a connection to the first address that takes one. Raises OSError."""
    failure: OSError = TimeoutError("timed out")
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection(address, timeout=left)
        except OSError as error:
            failure = error
    raise failure


def _secure(plain: socket.socket, host: str) -> ssl.SSLSocket:
    return _tls().wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@contextmanager
def _cut_at(connection: socket.socket, deadline: float) -> Generator[threading.Event]:
    """Shut the connection down at the deadline, whoever sends or reads a byte at a time."""
    is_cut = threading.Event()

    def cut() -> None:
        is_cut.set()
        # The plain socket's shutdown: that of TLS would take its state from under the reader.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield is_cut
    finally:
        timer.cancel()
        timer.join()  # the socket is closed next: its number must not be shut down by then


def _exchange(
    connection: socket.socket, host: str, target: str, body: bytes, headers: dict[str, str]
) -> tuple[int, str]:
    client = http.client.HTTPConnection(host)
    client.sock = connection
    client.request("POST", target, body, headers)
    response = client.getresponse()  # http.client bounds lines and their number
    return response.status, response.reason


def _require_taken(status: int, reason: str) -> None:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    answered = f"it answered {status} {reason[:80]}".rstrip()
    if status == HTTPStatus.GONE:
        raise DeliveryError(f"{answered}: it wants no more messages", gone=True)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise DeliveryError(f"{answered}: redirects are not followed; name the final URL")
    raise DeliveryError(f"{answered}, wanted 2xx")


def _reason(error: Exception, timeout_seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_seconds:g} s"
    if isinstance(error, socket.gaierror):
        return f"its host is not found: {error.strerror}"
    if isinstance(error, OSError):
        return f"the connection failed: {error.strerror or error}"
    return f"its answer is no HTTP: {type(error).__name__}"
