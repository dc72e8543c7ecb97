"""A small reverse proxy that puts a hub below a path, as an organisation's web server would."""

import http.client
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CHUNK = 1 << 16
HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "keep-alive"})
SECONDS = 60.0


@contextmanager
def below_a_path(hub: str, prefix: str) -> Generator[str]:
    """Serve what `hub` serves below `prefix`, which it takes away; yield the proxy's origin."""
    target = urlsplit(hub)
    assert target.hostname is not None

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)  # the organisation's own site
                return
            length = int(self.headers.get("Content-Length", 0))
            upstream = http.client.HTTPConnection(
                target.hostname or "", target.port, timeout=SECONDS
            )
            try:
                upstream.request(
                    self.command,
                    self.path.removeprefix(prefix),
                    self.rfile.read(length) if length else None,
                    dict(self.headers.items()),
                )
                answer = upstream.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while chunk := answer.read1(CHUNK):  # an event stream comes piece by piece
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except OSError:
                self.close_connection = True  # one of the two ends went away
            finally:
                upstream.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
