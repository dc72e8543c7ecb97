"""How a run's updates are encoded, as a plan says it: one section per codec, told by `name`.

The default is `exact`: canonical safetensors, without any of this package. Every other codec writes
the one file format of formats.py; docs/codecs.md has a page on each.

Invariants: defaults never change, since plans are named by what differs from them; a setting that
decides what a decoder does is in the file's header as well, so a file says what it is.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

CHUNK = 4096  # elements that sparse codecs look at together: an index in a chunk takes 12 bits


class Rounding(StrEnum):
    """How a value that lies between two codes becomes one of them."""

    NEAREST = "nearest"  # the closer one, half to even: the least error
    STOCHASTIC = "stochastic"  # either, so that the mean is the value: no bias over many updates


class HalfType(StrEnum):
    """A float of 16 bits."""

    BF16 = "bf16"  # the range of float32, 8 significant bits
    FP16 = "fp16"  # 11 significant bits between 6.1e-5 and 65504, fewer below, none beyond


Block = Annotated[
    int, Field(ge=16, le=4096, multiple_of=2, description="values that share a scale")
]
Share = Annotated[
    float,
    Field(gt=0, le=1, description="of every 4096 values, those of the greatest magnitude sent"),
]
Decay = Annotated[
    float, Field(gt=0, le=1, description="what remains of the unsent part from round to round")
]


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExactPlan(_Choice):
    """Every value as it is.

    The default: nothing is lost, 4 bytes a value for float32.
    """

    name: Literal["exact"] = Field(default="exact", description="the codec")


class Bf16Plan(_Choice):
    """Every float in bfloat16.

    Half the size of float32 and hardly a loss: the first to try.
    """

    name: Literal["bf16"] = Field(description="the codec")


class Fp16Plan(_Choice):
    """Every float in IEEE half precision.

    Half the size of float32, finer than bf16 for values that are neither large nor tiny.
    """

    name: Literal["fp16"] = Field(description="the codec")


class Int8Plan(_Choice):
    """Blocks of whole numbers from -127 to 127 with a scale each (Dettmers et al. 2022).

    About a quarter of the size of float32, for slow uplinks.
    """

    name: Literal["int8"] = Field(description="the codec")
    block: Block = 256
    rounding: Rounding = Field(
        default=Rounding.NEAREST,
        description="nearest: the least error; stochastic: no bias over many updates",
    )


class Int4Plan(_Choice):
    """Blocks of whole numbers from -7 to 7 with a scale each.

    About a seventh of the size of float32; watch the loss.
    """

    name: Literal["int4"] = Field(description="the codec")
    block: Block = 64
    rounding: Rounding = Field(
        default=Rounding.NEAREST,
        description="nearest: the least error; stochastic: no bias over many updates",
    )


class TopKPlan(_Choice):
    """The greatest values of every chunk; the rest is added to the next round's delta.

    At fraction 0.05 a twentieth of the size of float32; for sites that come back often.
    Top-k with memory: Stich, Cordonnier and Jaggi 2018, "Sparsified SGD with Memory".
    """

    name: Literal["topk"] = Field(description="the codec")
    fraction: Share = 0.05
    values: HalfType = Field(
        default=HalfType.BF16,
        description="of those sent: bf16 has the range of float32, fp16 more digits",
    )
    decay: Decay = 1.0


class Sparse2Plan(_Choice):
    """The greatest values of every chunk in two bits each; the rest is added to the next delta.

    At the default a seventieth of the size of float32; for sites that come back often.
    SparseLoCo: Sarfi, Thérien, Lidin and Belilovsky 2025, "Communication Efficient LLM Pre-training
    with SparseLoCo".
    """

    name: Literal["sparse2"] = Field(description="the codec")
    fraction: Share = 0.03125
    decay: Decay = 1.0


SparsePlan = TopKPlan | Sparse2Plan
LossyPlan = Bf16Plan | Fp16Plan | Int8Plan | Int4Plan | SparsePlan


def _named(value: object) -> object:
    """Take a section without a name as exact."""
    if not isinstance(value, Mapping):
        return value
    section = cast("Mapping[str, object]", value)
    return {"name": "exact", **section}


CodecPlan = Annotated[
    ExactPlan | LossyPlan, Field(discriminator="name"), BeforeValidator(_named)
]  # fmt: skip


def requires_memory(plan: CodecPlan) -> bool:
    """Whether a site keeps what its update left out until its next one (feedback.py)."""
    return isinstance(plan, SparsePlan)


def kept_of(plan: SparsePlan) -> int:
    """Return how many values of a whole chunk are sent: at least one."""
    return math.ceil(plan.fraction * CHUNK)  # exactly: a chunk is a power of two


def codec_names() -> frozenset[str]:
    """Return the names of all codecs."""
    choices = (ExactPlan, *get_args(LossyPlan))
    return frozenset(get_args(choice.model_fields["name"].annotation)[0] for choice in choices)
