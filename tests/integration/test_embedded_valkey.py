"""The embedded Valkey: reached by Celery's and by redis-py's spelling, and durable."""

import os
import signal
from pathlib import Path

from kombu.connection import Connection
from redis import Redis

from app.embedded import valkey


def test_celery_and_redis_py_reach_the_same_server(tmp_path: Path) -> None:
    with valkey.running(tmp_path) as server:
        with Connection(server.url) as connection:
            queue = connection.SimpleQueue("bell")
            queue.put({"round": 1})
            queue.close()
        with Redis.from_url(server.redis_py_url) as client:
            assert client.llen("bell") == 1


def test_data_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    with valkey.running(tmp_path) as server, Redis.from_url(server.redis_py_url) as client:
        client.set("kept", "stop")
    with valkey.running(tmp_path) as server, Redis.from_url(server.redis_py_url) as client:
        assert client.get("kept") == b"stop"
        client.set("kept", "kill")
        client.execute_command("WAITAOF", 1, 0, 5000)
        os.kill(server.pid, signal.SIGKILL)
    with valkey.running(tmp_path) as server, Redis.from_url(server.redis_py_url) as client:
        assert client.get("kept") == b"kill"


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    with valkey.running(tmp_path / ("long" * 30)) as server:
        assert valkey.is_ready(server.url)


def test_a_stopped_server_is_not_ready(tmp_path: Path) -> None:
    with valkey.running(tmp_path) as server:
        pass
    assert not valkey.is_ready(server.url)
