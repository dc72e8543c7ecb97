"""The one HTTP layer under every client: timeouts, retries, problems. Files: transfers.py.

Invariants:
- every call has a timeout, and every body that is read into memory has a bound;
- only calls that may be repeated are repeated, a bounded number of times, with jittered
  exponential backoff and never before the hub's Retry-After;
- no httpx exception leaves this module: callers see hansa.errors.
"""

import random
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Protocol, Self, TypedDict, TypeVar, Unpack
from urllib.parse import urlencode

import httpx2
from pydantic import BaseModel, ValidationError

from hansa import __version__
from hansa.answers import http_date, problem_of
from hansa.bulk import BulkClient, BulkResponse, Pieces
from hansa.errors import (
    BadAnswerError,
    LocalError,
    NotAuthenticatedError,
    RetryableError,
    UnreachableError,
)

MAX_JSON = 64 << 20  # bytes of an answer held in memory
MAX_RETRY_AFTER = 120.0  # seconds; a hub that asks for longer is asked again anyway
TRANSIENT = frozenset({429, 502, 503, 504})  # worth repeating within one call

AnswerT = TypeVar("AnswerT", bound=BaseModel)
OnceT = TypeVar("OnceT")
Params = Mapping[str, str | int | float | Sequence[str] | None]  # a sequence: once for each


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a repeatable call is repeated, and how long to wait between."""

    attempts: int = 5  # the first one included
    first_delay_seconds: float = 0.25
    max_delay_seconds: float = 10.0

    def delay(self, attempt: int, draw: float) -> float:
        """Return the wait after failed `attempt` (from 1); `draw` in [0, 1) is the jitter."""
        ceiling = min(self.max_delay_seconds, self.first_delay_seconds * 2 ** min(attempt - 1, 32))
        return ceiling * (0.5 + draw / 2)


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer, whole."""

    status: int
    body: bytes
    date: datetime | None  # by the hub's clock
    headers: Mapping[str, str]


class CallOptions(TypedDict, total=False):
    """What a request may carry besides its method and path."""

    body: BaseModel | bytes | None
    params: Params | None
    headers: Mapping[str, str] | None
    repeat: bool  # default true: the call may be sent twice without harm
    wait_seconds: float  # how long the hub may wait before it answers


class TokenSource(Protocol):
    """Where the bearer token comes from."""

    def token(self) -> str | None:
        """Return the token to send; None sends none."""
        ...

    def renew(self, refused: str | None) -> str | None:
        """Return another token after the hub refused that one; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class FixedToken:
    """A token that somebody was given; it cannot be renewed."""

    value: str | None = None

    def token(self) -> str | None:
        """Return the token."""
        return self.value

    def renew(self, refused: str | None) -> str | None:
        """Return None: there is no other token."""
        del refused
        return None


@cache
def _tls_context(loads_authorities: bool) -> ssl.SSLContext:
    """Return the process's TLS settings: loading the authorities takes long, so once.

    Without authorities it trusts nobody; that is for addresses without TLS.
    """
    if loads_authorities:
        return httpx2.create_ssl_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _draw() -> float:
    return random.random()  # noqa: S311 -- spreads load; nothing secret hangs on it


class Transport:
    """One hub's address with its connection pool. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        tokens: TokenSource | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Raise LocalError if `url` is not an http(s) address."""
        self.url = checked_url(url)
        self._tokens = tokens or FixedToken()
        self._retry = retry or RetryPolicy()
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._http = httpx2.Client(
            verify=_tls_context(self.url.startswith("https:")),
            headers={"User-Agent": f"hansa/{__version__}", "Accept": "application/json"},
            limits=httpx2.Limits(
                max_connections=16, max_keepalive_connections=8, keepalive_expiry=60
            ),
        )

        self.bulk = BulkClient(timeout_seconds=timeout_seconds, tls=lambda: _tls_context(True))

    def with_tokens(self, tokens: TokenSource) -> Self:
        """Return the same connections with other tokens; close only one of the two."""
        twin = copy(self)
        twin._tokens = tokens  # noqa: SLF001 -- its own class
        return twin

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self.bulk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, method: str, path: str, answer: type[AnswerT], **options: Unpack[CallOptions]
    ) -> AnswerT:
        """Send a request and return its answer as `answer`.

        Raises:
            HansaError: the subclass says what to do next.
        """
        got = self.call_or_none(method, path, answer, **options)
        if got is None:
            raise BadAnswerError(f"{method} {self.url}{path} answered nothing, wanted an answer")
        return got

    def call_or_none(
        self, method: str, path: str, answer: type[AnswerT], **options: Unpack[CallOptions]
    ) -> AnswerT | None:
        """Like `call`; an answer without content (204) is None."""
        reply = self.send(method, path, **options)
        if reply.status == HTTPStatus.NO_CONTENT or not reply.body:
            return None
        return self.parsed(reply.body, answer, f"{method} {self.url}{path}")

    def send(self, method: str, path: str, **options: Unpack[CallOptions]) -> Reply:
        """Send a small request and return what came back. Raises HansaError."""
        body = options.get("body")
        content = body.model_dump_json().encode() if isinstance(body, BaseModel) else body
        headers = dict(options.get("headers") or {})
        if content is not None:
            headers.setdefault("Content-Type", "application/json")

        def once() -> Reply:
            with self.exchange(
                method,
                path,
                content=content,
                params=options.get("params"),
                headers=headers,
                wait_seconds=options.get("wait_seconds", 0.0),
            ) as response:
                date = http_date(response.headers.get("Date"))
                return Reply(response.status_code, read_bounded(response), date, response.headers)

        return self.repeat(once) if options.get("repeat", True) else once()

    def repeat(self, once: Callable[[], OnceT]) -> OnceT:
        """Return what `once` returns, calling it again after transient failures."""
        attempt = 0
        while True:
            try:
                return once()
            except RetryableError as error:
                if error.problem is not None and error.problem.status not in TRANSIENT:
                    raise
                attempt += 1
                self.pause(attempt, error)

    def pause(self, attempt: int, error: RetryableError) -> None:
        """Wait before the next attempt. Raises `error` when that was the last one."""
        if attempt >= self._retry.attempts:
            raise error
        delay = self._retry.delay(attempt, _draw())
        self._sleep(max(delay, min(error.retry_after_seconds, MAX_RETRY_AFTER)))

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        stream: Callable[[], Iterator[bytes]] | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        wait_seconds: float = 0.0,
    ) -> Generator[httpx2.Response]:
        """Yield the answer to one request, unread. A refused token is renewed once.

        Raises:
            HansaError: no answer, a cut one, or a problem.
        """
        token = self._tokens.token()
        try:
            for renewable in (True, False):
                sent = dict(headers or {})
                if token:
                    sent["Authorization"] = f"Bearer {token}"
                request = self._http.build_request(
                    method,
                    self.url + path,
                    content=stream() if stream else content,
                    params={k: v for k, v in (params or {}).items() if v is not None} or None,
                    headers=sent,
                    timeout=httpx2.Timeout(
                        self._timeout,
                        connect=min(self._timeout, 10.0),
                        read=self._timeout + wait_seconds,
                    ),
                )
                response = self._http.send(request, stream=True)
                try:
                    if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
                        yield response
                        return
                    raw = read_bounded(response)
                    status, reason = response.status_code, response.reason_phrase
                    what = f"{method} {self.url}{path}"
                    error = problem_of(raw, status, reason, response.headers, what)
                finally:
                    response.close()
                if not (renewable and isinstance(error, NotAuthenticatedError)):
                    raise error
                renewed = self._tokens.renew(token)
                if renewed is None:
                    raise error
                token = renewed
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error

    @contextmanager
    def exchange_bulk(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Pieces | None = None,
        params: Mapping[str, str] | None = None,
        wait_seconds: float = 0.0,
        redirects: bool = False,
    ) -> Generator[BulkResponse]:
        """Yield the answer to one request with bulk bytes, unread; see bulk.py.

        With `redirects` a 307 is an answer, too. A refused token is renewed once.

        Raises:
            HansaError: no answer, a cut one, or a problem.
        """
        token = self._tokens.token()
        url = self.url + path + (f"?{urlencode(params)}" if params else "")
        for renewable in (True, False):
            sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
            with self.bulk.exchange(
                method, url, headers=sent, body=body, wait_seconds=wait_seconds
            ) as response:
                follows = redirects and response.status == HTTPStatus.TEMPORARY_REDIRECT
                if response.status < HTTPStatus.MULTIPLE_CHOICES or follows:
                    yield response
                    return
                raw = response.read(MAX_JSON)
                what = f"{method} {self.url}{path}"
                error = problem_of(raw, response.status, response.reason, response.headers, what)
            if not (renewable and isinstance(error, NotAuthenticatedError)):
                raise error
            renewed = self._tokens.renew(token)
            if renewed is None:
                raise error
            token = renewed

    def _unreachable(self, error: httpx2.HTTPError) -> UnreachableError:
        if isinstance(error, (httpx2.ConnectError, httpx2.ProxyError)):
            reason = _reason(error)
            certificate = "CERTIFICATE" in reason.upper()
            return UnreachableError(
                f"cannot reach the hub at {self.url}: {reason}",
                hint="its certificate is not trusted here; SSL_CERT_FILE can name your CA's file"
                if certificate
                else "is it running, and is the address right?",
            )
        if isinstance(error, httpx2.TimeoutException):
            return UnreachableError(
                f"the hub at {self.url} did not answer within {self._timeout:g} s",
                hint="is it running, and is the address right?",
            )
        return UnreachableError(f"the connection to the hub at {self.url} was cut: {error}")

    def parsed(self, raw: bytes, answer: type[AnswerT], what: str) -> AnswerT:
        try:
            return answer.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise BadAnswerError(
                f"the answer to {what} is no {answer.__name__}: {where}: {first['msg']}",
                hint="is this the address of a Hansa hub, and is this SDK as new as the hub?",
            ) from error


def checked_url(url: str) -> str:
    """Return `url` without its trailing slash. Raises LocalError if it is no http(s) address."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise LocalError(f"{url!r} is not an address: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise LocalError(
            f"{url!r} is not a hub's address", hint="it starts with https:// (or http://)"
        )
    if parsed.query or parsed.fragment or parsed.userinfo:
        raise LocalError(f"{url!r} is not a hub's address: it has a query, fragment or user")
    return url.rstrip("/")


def is_plain_and_remote(url: str) -> bool:
    """Return whether secrets sent to `url` would cross a network unencrypted."""
    parsed = httpx2.URL(url)
    local = parsed.host in {"localhost", "::1"} or parsed.host.startswith("127.")
    return parsed.scheme == "http" and not local


def read_bounded(response: httpx2.Response) -> bytes:
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > MAX_JSON:
            raise BadAnswerError(f"{response.url} answered more than {MAX_JSON} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _reason(error: httpx2.HTTPError) -> str:
    """Return the operating system's words for a failed connection."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[0].lower() + cause.strerror[1:]
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
