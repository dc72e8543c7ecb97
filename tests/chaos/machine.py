"""All the parts of a hub with four sites, each a process of its own in the harness's hand.

Postgres and Valkey, two hub replicas behind the forwarder, two Celery workers, beat, four sites.
Used from one thread: the kernel ends the processes with the thread that started them.
"""

import contextlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from alembic import command

from app.embedded import network, postgres, valkey
from app.embedded.migrations import alembic_config
from app.embedded.processes import ProcessSpec
from hansa.client import HansaClient
from hansa.identity import open_state_dir
from hansa.journal import store_tensors
from hansa.site import enroll
from hansa_core import wire
from hansa_core.signing import encode_base64
from tests.chaos.faults import NETWORK, STORE, Fault, Kind
from tests.chaos.forwarder import HOST, Forwarder
from tests.chaos.parts import Part
from tests.chaos.runs import MODEL, SITES
from tests.chaos.switches import StoreFolder, Switch
from tests.chaos.trainer import trainer
from tests.e2e.numpy_trainer import Config
from tests.e2e.processes import ADMIN, BIN, CHECKOUT, PATIENCE, clean_env, free_port

SLUG = "chaos"
PASSWORD = "a passphrase for chaos"  # noqa: S105
TICK_SECONDS = 0.01
START_SECONDS = 90.0
EXCUSED_SECONDS = 10.0  # after what may have ended a part

TASK_LEASE_SECONDS = 4.0
TUNING = {
    "HANSA_TASK_LEASE_SECONDS": str(TASK_LEASE_SECONDS),
    "HANSA_AGGREGATION_LEASE_SECONDS": "3",
    "HANSA_SWEEP_SECONDS": "1",
    "HANSA_CLAIM_WAIT_SECONDS": "4",
    "HANSA_SITE_ONLINE_SECONDS": "600",
    "HANSA_LOG_FORMAT": "json",
    "HANSA_LOG_LEVEL": "info",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Machine:
    """The parts, from the first start of Postgres to the end of everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.sites = folder / "sites"  # a folder for each, by name
        self._hub_dir = folder / "hub"
        self._hub_dir.mkdir(mode=0o711)
        self.store = StoreFolder(folder)
        self.store.make()
        self._cluster = postgres.open_cluster(self._hub_dir)
        self._redis_url = valkey.valkey_url(self._hub_dir)
        self._hub_ports = {"hub-1": free_port(), "hub-2": free_port()}
        port = free_port()
        self.address = f"http://{HOST}:{port}"
        self._forwarder = Forwarder(port, tuple(self._hub_ports.values()))
        self.parts: dict[str, Part] = {}  # in start order
        self.switches = {NETWORK: Switch(), STORE: Switch()}
        self._postgres_struck_at = -EXCUSED_SECONDS

    @property
    def conninfo(self) -> str:
        """The address of the hub's database, for psycopg."""
        return self._cluster.url.replace("postgresql+psycopg://", "postgresql://", 1)

    def __enter__(self) -> Self:
        try:
            self._forwarder.__enter__()
            self._bring_up()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """End every process, the last one first, and give the address back."""
        for part in reversed(self.parts.values()):
            part.end()
        for switch in self.switches.values():
            switch.end()
        self._forwarder.__exit__(None, None, None)
        for sockets in (self._cluster.socket_dir, Path(self._redis_url.partition("://")[2]).parent):
            if self.folder not in sockets.parents:
                shutil.rmtree(sockets, ignore_errors=True)

    def tick(self) -> None:
        """Do what is due in every part."""
        for switch in self.switches.values():
            switch.tick()
        for part in self.parts.values():
            part.tick()

    def wait_until(
        self, condition: Callable[[], bool], what: str, *, seconds: float = START_SECONDS
    ) -> None:
        """Tick until `condition()`; fail, saying what it was, after `seconds`."""
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
            self.tick()
            pause.wait(TICK_SECONDS)

    def login(self) -> HansaClient:
        """Return a patient client that acts as the administrator."""
        with HansaClient(self.address, retry=PATIENCE) as anonymous:
            token = anonymous.login(ADMIN, PASSWORD).token
        return HansaClient(self.address, token, retry=PATIENCE)

    def surprises(self) -> Iterator[str]:
        """Yield what parts did that nobody asked them for."""
        for part in self.parts.values():
            yield from (f"{part.name} {surprise}" for surprise in part.surprises)

    def is_ready_for(self, fault: Fault) -> bool:
        """Whether nothing is being done to the fault's part at the moment."""
        return {**self.parts, **self.switches}[fault.part].is_whole

    def strike(self, fault: Fault, rng: Random) -> None:
        """Do one fault; its part has to be whole."""
        if fault.part in self.switches:
            self._switch_off(fault)
            return
        part = self.parts[fault.part]
        if fault.part == "postgres":
            self._postgres_struck_at = time.monotonic() + fault.seconds
        match fault.kind:
            case Kind.KILL:
                part.kill(fault.seconds)
            case Kind.CHILD:
                part.kill_child(rng)
            case Kind.FREEZE:
                part.freeze(fault.seconds)
            case Kind.STOP:
                part.stop(part.spec.stop_signal, fault.seconds)
            case Kind.QUIT:
                part.stop(signal.SIGQUIT, fault.seconds)
            case Kind.FLUSH:
                self._flush()
            case Kind.CUT | Kind.HOLD | Kind.REFUSE | Kind.AWAY | Kind.UNWRITABLE:
                raise AssertionError(f"{fault.kind} is nothing for {fault.part}")

    def _switch_off(self, fault: Fault) -> None:
        switch, seconds = self.switches[fault.part], fault.seconds
        wire_, store = self._forwarder, self.store
        match fault.kind:
            case Kind.CUT:
                wire_.cut()
            case Kind.HOLD:
                switch.turn_off(lambda: wire_.hold(True), lambda: wire_.hold(False), seconds)
            case Kind.REFUSE:
                switch.turn_off(lambda: wire_.refuse(True), lambda: wire_.refuse(False), seconds)
            case Kind.AWAY:
                switch.turn_off(
                    lambda: store.show(there=False), lambda: store.show(there=True), seconds
                )
            case Kind.UNWRITABLE:
                switch.turn_off(
                    lambda: store.allow_writing(allowed=False),
                    lambda: store.allow_writing(allowed=True),
                    seconds,
                )
            case _:
                raise AssertionError(f"{fault.kind} is nothing for {fault.part}")

    def _flush(self) -> None:
        from redis import Redis, RedisError  # noqa: PLC0415

        from app.doorbell import redis_py_url  # noqa: PLC0415

        with (
            contextlib.suppress(RedisError),  # it is still starting: it has little to forget
            Redis.from_url(redis_py_url(self._redis_url), socket_timeout=2) as client,
        ):
            client.flushall()

    def _bring_up(self) -> None:
        cluster = self._cluster
        self._add(
            postgres.postgres_spec(cluster),
            prepare=lambda: postgres.clear_stale_pid(cluster),
            # What it killed left a segment of shared memory to orphans that take a moment to go.
            excuse=lambda: time.monotonic() - self._postgres_struck_at < EXCUSED_SECONDS,
        )
        self._add(valkey.valkey_spec(self._hub_dir))
        self.wait_until(lambda: postgres.is_ready(cluster), "postgres")
        self.wait_until(lambda: valkey.is_ready(self._redis_url), "valkey")
        postgres.ensure_database(cluster)
        env = self._environment()
        self._migrate(env)
        store = self.switches[STORE]  # a replica does not start without one
        for name, port in self._hub_ports.items():
            argv = (str(BIN / "hansa-hub"), "serve", "--host", HOST, "--port", str(port))
            self._add_ours(name, argv, env, lambda: store.was_off_within(EXCUSED_SECONDS))
        work = (str(BIN / "hansa-hub"), "worker", "--concurrency", "1")
        for name in ("worker-1", "worker-2"):
            self._add_ours(name, work, env, lambda: True)  # Celery leaves when its broker does
        self._add_ours("beat", (str(BIN / "hansa-hub"), "beat"), env, lambda: True)
        for name, port in self._hub_ports.items():
            self.wait_until(lambda port=port: network.answers_ready(HOST, port), name)
            assert not self.parts[name].surprises, f"{name} does not start"

    def enroll_sites(self) -> HansaClient:
        """Found the federation and its model, enroll the sites and start them."""
        client = self.login()
        client.create_federation(
            wire.FederationCreate(slug=SLUG, name=SLUG, requires_approval=False)
        )
        client.create_model(SLUG, MODEL)
        first = self.folder / "first.safetensors"
        store_tensors(first, trainer.initial_tensors(Config(), seed=11))
        client.upload_checkpoint(SLUG, MODEL, first)
        for number, name in enumerate(SITES, start=1):
            state = open_state_dir(self.sites / name, create=True)
            enroll(state, self.address, client.create_invitation(SLUG).token, name=name)
            run = (str(BIN / "hansa"), "site", "run", "--trainer", "tests.chaos.trainer:trainer")
            argv = (*run, "--state-dir", str(state.path), "--longest-pause", "2")
            env = {**TUNING, "HANSA_E2E_DATA": str(number), "COLUMNS": "200"}
            self._add_ours(f"site-{number}", argv, env, lambda: False)
        self.wait_until(
            lambda: sum(site.online for site in client.sites(SLUG)) == len(SITES), "sites online"
        )
        return client

    def _environment(self) -> Mapping[str, str]:
        return {
            **TUNING,
            "HANSA_DATABASE_URL": self._cluster.url,
            "HANSA_REDIS_URL": self._redis_url,
            "HANSA_ARTIFACTS_URL": f"file://{self.store.path}",
            "HANSA_PUBLIC_URL": self.address,
            "HANSA_SIGNING_KEY": encode_base64(bytes(range(32))),
            "HANSA_MIN_FREE_BYTES": "0",
        }

    def _migrate(self, env: Mapping[str, str]) -> None:
        """Make the schema and the administrator."""
        config = alembic_config()
        config.attributes["database_url"] = self._cluster.url
        command.upgrade(config, "head")
        create = (str(BIN / "hansa-hub"), "admin", "create", "--email", ADMIN, "--password-stdin")
        done = subprocess.run(  # noqa: S603 -- our own command
            create,
            input=f"{PASSWORD}\n",
            env=clean_env(**env),
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _add_ours(
        self, name: str, argv: tuple[str, ...], env: Mapping[str, str], excuse: Callable[[], bool]
    ) -> None:
        self._add(ProcessSpec(name, argv, env, cwd=CHECKOUT), excuse=excuse)

    def _add(
        self,
        spec: ProcessSpec,
        *,
        prepare: Callable[[], None] = lambda: None,
        excuse: Callable[[], bool] = lambda: False,
    ) -> None:
        part = Part(spec, self.logs / f"{spec.name}.log", prepare, excuse)
        self.parts[spec.name] = part
        part.tick()
