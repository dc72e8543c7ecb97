"""Throttles, meters, lanes and bulk connections: the parts of a transfer by themselves."""

import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from hansa.bulk import BulkClient
from hansa.errors import LocalError, UnreachableError
from hansa.transfers import Meter, Throttle, download_file, parse_rate
from hansa.transfers.lanes import Counted, Course, StoppedError, run_lanes
from hansa.transfers.uploads import Compressing
from hansa.transport import Transport
from tests.unit.client.cutting_proxy import CuttingProxy
from tests.unit.client.fake_hub import FakeHub, serving


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_throttle_keeps_its_rate_over_parallel_takers() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock)
    waits = [throttle.take(500) for _ in range(4)]
    assert waits == [0.5, 1.0, 1.5, 2.0]
    clock.now += 2.0
    assert throttle.take(100) == pytest.approx(0.1)


def test_a_throttle_that_rested_gives_a_quarter_of_a_second_at_once_and_no_more() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock)
    clock.now += 3600
    assert throttle.take(250) == 0
    assert throttle.take(250) == pytest.approx(0.25)


def test_no_rate_is_no_bound() -> None:
    assert Throttle().take(10**12) == 0


def test_rates_are_read_as_people_write_them() -> None:
    assert parse_rate("5MB/s") == 5e6
    assert parse_rate("800 kB/s") == 800e3
    assert parse_rate("2MiB") == 2 * 2**20
    assert parse_rate("1.5g") == 1.5e9
    assert parse_rate("123456") == 123456
    for wrong in ("", "fast", "5 Mbit", "-1MB/s", "10", "0MB/s"):
        with pytest.raises(LocalError, match="wanted like 5MB/s"):
            parse_rate(wrong)


def test_a_meter_tells_rate_and_time_left() -> None:
    clock = Clock()
    meter = Meter(1_000_000_000, clock=clock)
    first = meter.note(200_000_000)  # resumed: that much was there
    assert (first.bytes_per_second, first.seconds_left) == (0, None)
    assert str(first) == "200 of 1000 MB, 0.0 MB/s"
    clock.now += 4
    pace = meter.note(240_000_000)
    assert pace.bytes_per_second == 10_000_000
    assert pace.seconds_left == 76
    assert pace.metrics == {"bytes_per_second": 1e7, "seconds_left": 76.0}
    assert str(pace) == "240 of 1000 MB, 10 MB/s, 76 s left"
    clock.now += 60  # nothing came: the rate is of the last seconds
    assert meter.note(240_000_000).bytes_per_second < 1_000_000


def no_watch() -> bool:
    return False


def test_lanes_do_everything_once() -> None:
    done: list[int] = []
    run_lanes(Course(Throttle()), range(100), done.append, lanes=4, watch=no_watch)
    assert sorted(done) == list(range(100))


def test_a_failing_lane_lets_the_others_finish_what_they_are_at() -> None:
    started, failed = threading.Event(), threading.Event()
    done: list[int] = []

    def work(index: int) -> None:
        if index == 0:
            assert started.wait(10)
            failed.set()
            raise LocalError("broken")
        started.set()
        assert failed.wait(10)
        done.append(index)

    with pytest.raises(LocalError, match="broken"):
        run_lanes(Course(Throttle()), range(50), work, lanes=2, watch=no_watch)
    assert 1 in done
    assert len(done) < 49


def test_an_interrupted_watcher_stops_the_lanes() -> None:
    course = Course(Throttle(10_000))
    stopped = threading.Event()

    def work(_: int) -> None:
        try:
            while True:
                course.pass_on(1_000_000)  # waits for minutes
        except StoppedError:
            stopped.set()
            raise

    def watch() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_lanes(course, range(3), work, lanes=2, watch=watch)
    assert stopped.wait(10)


def test_bytes_of_a_chunk_that_goes_again_are_taken_back() -> None:
    course = Course(Throttle(), done=7)
    counted = Counted(course)
    counted.add(5)
    counted.add(6)
    assert course.done == 18
    counted.take_back()
    assert course.done == 7
    counted.add(4)
    counted.settle(100)
    assert course.done == 107


def a_client() -> BulkClient:
    def no_tls() -> None:
        raise AssertionError

    return BulkClient(timeout_seconds=10, tls=no_tls)  # pyright: ignore[reportArgumentType]


def test_a_bulk_connection_is_used_again_and_outlives_its_end(hub: FakeHub) -> None:
    client = a_client()
    with CuttingProxy(hub.port) as proxy:
        url = f"{proxy.url}/open/{hub.add_checkpoint(b'x').digest}"
        for _ in range(3):
            with client.exchange("GET", url, headers={}) as response:
                response.read(10_000)
        assert proxy.connections == 1
        proxy.cut_all()  # while idle: nobody notices
        with client.exchange("GET", url, headers={}) as response:
            response.read(10_000)
    client.close()


def test_a_cut_answer_is_told_from_a_whole_one(hub: FakeHub, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    digest = hub.add_checkpoint(content).digest
    with CuttingProxy(hub.port) as proxy, Transport(proxy.url) as transport:
        proxy.cut_answers_after = [500_000]
        with (
            pytest.raises(UnreachableError, match=r"was cut, .* bytes before the end"),
            transport.exchange_bulk("GET", f"/open/{digest}", headers={}) as response,
        ):
            for _ in response.pieces():
                pass
        target = tmp_path / "model"
        download_file(transport, f"/open/{digest}", target, digest=digest, size=len(content))
    assert target.read_bytes() == content


def test_nobody_listening_is_unreachable() -> None:
    client = a_client()
    with (
        pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:1 failed"),
        client.exchange("GET", "http://127.0.0.1:1/", headers={}),
    ):
        pass
    client.close()


def chunk_of(value: int) -> list[bytes]:
    return [bytes([value]) * 2**20] * 4


def test_compression_is_tried_on_one_chunk_and_gone_on_with_where_it_was_quicker() -> None:
    compressing = Compressing(wanted=True)
    compressing.is_known = True
    assert compressing.encode(chunk_of(1)) is None  # nothing to compare with yet
    compressing.learn(2.0, encoded=False)
    assert compressing.encode(chunk_of(1)) is not None
    assert compressing.encode(chunk_of(1)) is None  # one trial at a time
    compressing.learn(0.5, encoded=True)
    assert compressing.encode(chunk_of(1)) is not None


def test_compression_that_was_slower_is_given_up() -> None:
    compressing = Compressing(wanted=True)
    compressing.is_known = True
    compressing.learn(2.0, encoded=False)
    assert compressing.encode(chunk_of(1)) is not None
    compressing.learn(2.5, encoded=True)
    assert compressing.encode(chunk_of(1)) is None


@pytest.mark.parametrize(
    ("wanted", "is_known", "seconds"), [(False, True, 2.0), (True, False, 2.0), (True, True, 0.1)]
)
def test_compression_is_not_tried(wanted: bool, is_known: bool, seconds: float) -> None:
    compressing = Compressing(wanted=wanted)
    compressing.is_known = is_known
    compressing.learn(seconds, encoded=False)
    assert compressing.encode(chunk_of(1)) is None
