"""A hub on a real socket, for clients that open one."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from app.main import create_app
from app.settings import Settings

DEADLINE_SECONDS = 30.0


@contextmanager
def hub_on_a_socket(settings: Settings) -> Generator[str]:
    """Serve a hub and yield its address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    config = uvicorn.Config(create_app(settings), log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_SECONDS)
        listening.close()
        assert not thread.is_alive()
