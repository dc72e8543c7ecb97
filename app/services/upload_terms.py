"""What the bytes of an upload have to be: as a task, or a person, announced them."""

from dataclasses import dataclass, field

from app.services.checkpoints import NewBlob
from hansa_core.codecs.inspection import Inspector, inspector_of
from hansa_core.codecs.plans import CodecPlan, ExactPlan
from hansa_core.inspection import Inspection, UpdateInspector
from hansa_core.layouts import Layout


@dataclass(frozen=True, slots=True)
class Terms:
    """What an upload's bytes have to be."""

    max_bytes: int
    expected: Layout | None = None  # None: any tensors
    codec: CodecPlan = field(default_factory=ExactPlan)
    encoding: str | None = None  # RunPlan.encoding

    def inspector(self) -> Inspector:
        """Return a checker of such bytes."""
        if self.expected is None:
            return UpdateInspector(None, self.max_bytes)
        return inspector_of(self.codec, self.expected, self.max_bytes)

    def blob(self, seen: Inspection) -> NewBlob:
        """Return the durable blob that the checker has seen."""
        return NewBlob(seen.digest_hex, seen.size, seen.layout, encoding=self.encoding)
