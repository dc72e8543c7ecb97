"""Sending an answer that lies in the journal: its files, then the signed message.

Invariant: repeated after any failure it sends the same bytes.
"""

from hansa.errors import LocalError
from hansa.heartbeats import Heartbeats
from hansa.journal import Answer
from hansa.progress import ProgressReport
from hansa.work import Workshop, require_wanted
from hansa_core import wire
from hansa_core.states import TaskPhase


def send(shop: Workshop, task: wire.Task, answer: Answer, beats: Heartbeats) -> wire.TaskReceipt:
    """Send the answer to a task and return the hub's receipt.

    Raises:
        AbandonedError, TaskLostError: nobody waits for it any more.
        HansaError: the hub refuses it, or is away.
    """
    if answer.report is not None:
        return shop.client.submit_evaluation(task, answer.report, answer.signature)
    manifest = answer.manifest
    if manifest is None:
        raise LocalError("the journal's answer is empty")

    total = manifest.size + sum(part.size for part in manifest.parts.values())
    before = 0  # bytes of the files that are there
    told = ProgressReport(beats, TaskPhase.UPLOADING, total, shop.step)

    def on_bytes(done: int) -> None:
        told.note(before + done)
        require_wanted(beats)

    for name, part in manifest.parts.items():
        path = shop.journal.part_path(task.id, name)
        shop.client.upload_delta(
            task, path, digest=part.digest, size=part.size, part=name, on_bytes=on_bytes
        )
        before += part.size
        shop.step("part_uploaded", f"uploaded the update's {name}, {part.size} bytes", {})
    shop.client.upload_delta(
        task,
        shop.journal.delta_path(task),
        digest=manifest.digest,
        size=manifest.size,
        on_bytes=on_bytes,
    )
    shop.step("delta_uploaded", f"uploaded the delta, {manifest.size} bytes", {})
    return shop.client.submit_update(task, manifest, answer.signature)
