"""Asks before and after the start whether addresses are free, reachable or ready."""

import errno
import http.client
import socket

import psycopg

from app.embedded.errors import EXIT_PORT_IN_USE, StackError

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- as given


def reachable_host(host: str) -> str:
    """Return the address under which this machine itself reaches a hub bound to `host`."""
    return _WILDCARDS.get(host, host)


def address_of(host: str, port: int) -> str:
    """Return the http address of a hub bound to `host` and `port`, as seen from here."""
    name = reachable_host(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def require_free_port(host: str, port: int) -> int:
    """Return the port, or a free one for port 0.

    Raises:
        StackError: somebody listens there (exit code 4), or it cannot be bound at all.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(
                f"port {port} on {host} is in use by another program; choose another, as in: "
                f"hansa-hub up --port {port + 1}",
                exit_code=EXIT_PORT_IN_USE,
            ) from error
        raise StackError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def answers_ready(host: str, port: int) -> bool:
    """Whether GET /readyz answers 200."""
    connection = http.client.HTTPConnection(reachable_host(host), port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def require_database(url: str) -> None:
    """Connect once to a database that is not ours.

    Raises:
        StackError: it does not let us in; the message has the reason and no password.
    """
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        psycopg.connect(plain, connect_timeout=5).close()
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise StackError(
            f"the database of HANSA_DATABASE_URL cannot be used: {error}; "
            "start it, correct the address, or unset the variable to get one of our own"
        ) from error
