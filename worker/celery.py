"""The Celery application: what workers and beat run. Messages are doorbells, never records."""

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_process_shutdown

from app.doorbell import APPLY_RETENTION, CHECK_STORE, SWEEP, SWEEP_STORE, WATCH, configure_broker
from app.observability import configure_logging
from app.settings import get_settings
from hansa_core.aggregation import compiled
from hansa_core.codecs import warming
from worker.runtime import close_runtime

TASKS = ["worker.tasks.rounds", "worker.tasks.notifications", "worker.tasks.housekeeping"]
HOUSEKEEPING_SECONDS = 3600  # between two looks for what may be deleted
SWEEP_EXPIRES_SECONDS = 30  # a sweep that nobody took has been overtaken by the next one
STORE_CHECK_SECONDS = 60  # between looks at the artifact store


def create_celery() -> Celery:
    """Return the application of the environment's settings."""
    settings = get_settings()
    app = Celery(
        "hansa",
        include=TASKS,
    )
    configure_broker(app, settings.redis_url.get_secret_value())
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": settings.sweep_seconds,
                "options": {"expires": SWEEP_EXPIRES_SECONDS},
            },
            "watch": {
                "task": WATCH,
                "schedule": settings.sweep_seconds,
                "options": {"expires": SWEEP_EXPIRES_SECONDS},
            },
            "check_store": {
                "task": CHECK_STORE,
                "schedule": STORE_CHECK_SECONDS,
                "options": {"expires": SWEEP_EXPIRES_SECONDS},
            },
            "apply_retention": {"task": APPLY_RETENTION, "schedule": HOUSEKEEPING_SECONDS},
            "sweep_store": {"task": SWEEP_STORE, "schedule": HOUSEKEEPING_SECONDS},
        },
        timezone="UTC",
    )
    return app


@setup_logging.connect
def _configure_logging(**_: object) -> None:
    configure_logging(get_settings())


@worker_init.connect
def _warm(**_: object) -> None:
    """Get the rules' loops ready before processes are forked: all of them share what that takes."""
    compiled.warm()
    warming.warm()


@worker_process_shutdown.connect
def _close(**_: object) -> None:
    close_runtime()


celery_app = create_celery()
