"""What a site implements: the trainer protocol, its typed configuration and the delta rule.

A trainer turns a global model and the site's own data into local weights. Only what it returns
leaves the site. `hansa.pytorch.TorchTrainer` implements it for PyTorch; anything that speaks
numpy can do so itself.

Invariants:
- the run's `[training]` table reaches a trainer only through `parse_config`;
- every random choice derives from `TrainContext.seed`, so that a round can be repeated;
- `delta` is pure, exact per dtype and refuses anything it cannot represent.
"""

import hashlib
import importlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hansa.differences import differences
from hansa.errors import HansaError
from hansa_core.corrections import LocalTerm
from hansa_core.dtypes import dtype_of
from hansa_core.layouts import Layout
from hansa_core.local_work import Scalar
from hansa_core.plans import problems_of
from hansa_core.tensors import Sink, write_header

ConfigT = TypeVar("ConfigT")

Tensors = Mapping[str, NDArray[Any]]
"""A state dict at the boundary: name to array; bfloat16 as `hansa_core.dtypes.BFLOAT16`."""

_METHODS = ("initial_tensors", "train", "evaluate")


class TrainerError(HansaError):
    """Something about the trainer or what it returned is wrong; retrying does not help."""


class TrainerNotFoundError(TrainerError):
    """The text given for `--trainer` leads to no trainer."""


class ConfigError(TrainerError):
    """The `[training]` table does not fit the trainer's configuration type."""

    def __init__(self, config_name: str, problems: list[tuple[str, str]]) -> None:
        self.problems = problems  # (dotted path, what is wrong with the value seen there)
        listed = "".join(f"\n  {path}: {message}" for path, message in problems)
        super().__init__(f"the run's training table does not fit {config_name}:{listed}")


class TensorsError(TrainerError):
    """Tensors that do not fit the model, or that no update can carry."""


class TrainingDivergedError(TrainerError):
    """The loss stopped being a finite number: there is nothing worth uploading."""


class TrainingStopped(Exception):  # noqa: N818 - an answer to stop_requested, not an error
    """Raised by a trainer that noticed `stop_requested`; the runner drops the task."""


class Report(Protocol):
    """Tell the hub how far training is: `progress` from 0 to 1, metrics of your choice."""

    def __call__(self, progress: float, **metrics: float) -> None: ...


def report_nothing(progress: float, **metrics: float) -> None:
    """Drop the report: for callers that show no progress."""


def never_stop() -> bool:
    """Return False: for callers that never stop a training early."""
    return False


@dataclass(frozen=True, slots=True)
class TrainContext(Generic[ConfigT]):
    """What a trainer may know about the round it works for."""

    config: ConfigT
    seed: int  # see derive_seed; 0 <= seed < 2**63
    round_number: int = 1
    device: str = "cpu"  # the site operator's choice, "cuda:0" for example
    report: Report = report_nothing
    stop_requested: Callable[[], bool] = never_stop  # cheap: ask between batches
    term: LocalTerm | None = None  # to be added to gradients; only given if `applies_term`
    wants: frozenset[Scalar] = frozenset()  # numbers that the run's strategy needs of the result
    fixed: frozenset[str] = frozenset()  # tensors not to be trained: put back, if they are


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Weights after local training, and how much data they saw.

    Numbers that only some strategies need are None where a trainer cannot tell.

    Raises:
        TrainerError: fewer than one example, or a number that is not finite or out of range.
    """

    tensors: Tensors  # the local weights, not the delta
    num_examples: int  # distinct local examples, not examples times epochs
    metrics: Mapping[str, float]
    steps: int | None = None  # of the optimizer, this round
    learning_rate: float | None = None  # the same for all steps and all tensors
    normaliser: float | None = None  # |a|_1: plain SGD steps that these amount to; plain: `steps`
    base_loss: float | None = None  # mean over all local training examples, before training

    def __post_init__(self) -> None:
        _require_countable(self.num_examples, self.metrics)
        for name in ("steps", "learning_rate", "normaliser"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise TrainerError(f"{name} is {value}, wanted a finite number above 0")
        if self.base_loss is not None and not math.isfinite(self.base_loss):
            raise TrainerError(f"base_loss is {self.base_loss}, wanted a finite number")


@dataclass(frozen=True, slots=True)
class EvalResult:
    """How the incoming global model does on the site's held-out data.

    Raises:
        TrainerError: fewer than one example, or a metric that is not finite.
    """

    num_examples: int
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        _require_countable(self.num_examples, self.metrics)


class Trainer(Protocol[ConfigT]):
    """The four things a site's trainer has.

    A trainer that adds `context.term` to its gradients says so by an attribute
    `applies_term = True`; without it, runs whose strategy corrects local training fail.
    """

    @property
    def config_type(self) -> type[ConfigT]:
        """A pydantic model or a dataclass: the fields a run's `[training]` table may have."""
        ...

    def initial_tensors(self, config: ConfigT, seed: int) -> Tensors:
        """Return a fresh model; the same config and seed give the same bytes."""
        ...

    def train(self, tensors: Tensors, context: TrainContext[ConfigT]) -> TrainResult:
        """Train from the global model `tensors` on local data; leave `tensors` as it is.

        Raises:
            TrainingStopped: `context.stop_requested()` turned true.
        """
        ...

    def evaluate(self, tensors: Tensors, context: TrainContext[ConfigT]) -> EvalResult | None:
        """Return how `tensors` does on held-out data, None where the site holds none out."""
        ...


def applies_term(trainer: object) -> bool:
    """Return whether a trainer says that it adds `context.term` to its gradients."""
    return getattr(trainer, "applies_term", False) is True


def derive_seed(run_seed: int, round_number: int, site_name: str, purpose: str = "") -> int:
    """Return the seed of one site's training in one round, 0 <= seed < 2**63.

    The first 63 bits of SHA-256 over "hansa/seed/v1", the two numbers in decimal and the name
    in UTF-8, each followed by a zero byte: any language can compute it. What else is random in the
    round has a purpose, which is one part more.
    """
    parts = ("hansa/seed/v1", str(run_seed), str(round_number), site_name)
    parts += (purpose,) if purpose else ()
    digest = hashlib.sha256(b"".join(part.encode() + b"\0" for part in parts)).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # signed 64-bit seeds are the common limit


def parse_config(config_type: type[ConfigT], table: Mapping[str, JsonValue]) -> ConfigT:
    """Return the run's `[training]` table as the trainer's configuration.

    Types are taken strictly (`epochs = "3"` and `epochs = true` are refused); an integer
    stands for a float. Fields the type does not have are refused, whatever its own policy.

    Raises:
        ConfigError: with every wrong or unknown field, by dotted path.
    """
    known = _field_names(config_type)
    unknown = sorted(set(table) - known)
    wanted = ", ".join(sorted(known)) or "no field at all"
    problems = [(f"training.{name}", f"is unknown, wanted one of: {wanted}") for name in unknown]
    fields = {name: value for name, value in table.items() if name in known}
    try:
        config = TypeAdapter(config_type).validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        problems += _within_training(problems_of(error))
        raise ConfigError(config_type.__qualname__, problems) from None
    if problems:
        raise ConfigError(config_type.__qualname__, problems)
    return config


def load_trainer(spec: str) -> Trainer[Any]:
    """Return the trainer that "package.module:object" names, importing from cwd as well.

    A class or a function there is called without arguments and must give the trainer.

    Raises:
        TrainerNotFoundError: naming the part of `spec` that leads nowhere, or what the object
            found there lacks. An error inside the module itself is left as it is.
    """
    module_name, colon, path = spec.partition(":")
    if not (module_name and colon and path):
        raise TrainerNotFoundError(f"trainer {spec!r}: wanted the form package.module:object")
    found: object = _import(spec, module_name)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            names = ", ".join(name for name in vars(found) if not name.startswith("_"))
            raise TrainerNotFoundError(
                f"trainer {spec!r}: {module_name} has no {attribute!r}, it has: {names}"
            )
        found = getattr(found, attribute)
    return _as_trainer(spec, found)


def delta(
    local: Tensors, global_: Tensors, names: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Return local minus global, tensor by tensor, in the global model's own dtype and order.

    Of `names`, of all without; the others only have to be there, as the global model has them.

    float64, float32, float16: one IEEE subtraction in that dtype. Integers: the exact
    difference. bfloat16: both widened to float32, subtracted, rounded half to even. uint8 and
    bool, which have no negatives: zero, and only where nothing changed (a constant buffer).

    Raises:
        TensorsError: with every name, shape or dtype that differs, every dtype that no update
            carries, every value that is not finite and every integer overflow.
    """
    deltas: dict[str, NDArray[Any]] = {}
    problems: list[str] = []
    for name, difference, problem in differences(local, global_, names):
        if problem is not None:
            problems.append(f"{name}: {problem}")
        elif difference is not None:
            deltas[name] = difference
    _require_none(problems)
    return deltas


def write_delta(local: Tensors, global_: Tensors, layout: Layout, sink: Sink) -> int:
    """Write the canonical file of local minus global, as `delta` has it, to `sink`.

    Of the tensors of `layout`, which are the global model's; one difference at a time is in memory.
    Returns the file's size in bytes. What went to `sink` is of no use where it raises.

    Raises:
        TensorsError: as `delta` does.
    """
    ordered = {tensor.name: global_[tensor.name] for tensor in layout.tensors}
    problems: list[str] = []
    size = write_header(layout, sink)
    for name, difference, problem in differences(local, {**ordered, **global_}, ordered.keys()):
        if problem is not None:
            problems.append(f"{name}: {problem}")
        elif difference is not None and difference.size:
            flat = np.ascontiguousarray(difference, dtype_of(difference).numpy).reshape(-1)
            sink(flat.view(np.uint8).data)
    _require_none(problems)
    return size


def _require_none(problems: list[str]) -> None:
    if problems:
        raise TensorsError("cannot take the delta:" + "".join(f"\n  {line}" for line in problems))


def _within_training(problems: list[tuple[str, str]]) -> list[tuple[str, str]]:
    # "body" is what problems_of calls the table itself: two fields that do not go together.
    return [
        ("training" if path == "body" else f"training.{path}", message)
        for path, message in problems
    ]


def _field_names(config_type: type[Any]) -> set[str]:
    """Return the names a table may use: pydantic's aliases, else the fields themselves."""
    fields = cast(
        "Mapping[str, FieldInfo | object]",
        getattr(config_type, "model_fields", None)
        or getattr(config_type, "__dataclass_fields__", {}),
    )
    return {getattr(field, "alias", None) or name for name, field in fields.items()}


def _import(spec: str, module_name: str) -> object:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # stays: the trainer may import its neighbours later
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, something that it imports is not
        raise TrainerNotFoundError(
            f"trainer {spec!r}: no module {error.name!r} in {here} or among the installed packages"
        ) from None


def _as_trainer(spec: str, found: object) -> Trainer[Any]:
    is_factory = isinstance(found, type) or (callable(found) and bool(_lacks(found)))
    if is_factory:
        factory = cast("Callable[[], object]", found)
        try:
            inspect.signature(factory).bind()
        except TypeError as error:
            raise TrainerNotFoundError(
                f"trainer {spec!r}: it is called without arguments, but {error}"
            ) from None
        found = factory()
    lacks = _lacks(found)
    if lacks:
        raise TrainerNotFoundError(
            f"trainer {spec!r}: a {type(found).__qualname__} is no trainer,"
            f" it lacks {', '.join(lacks)}"
        )
    return cast("Trainer[Any]", found)


def _lacks(found: object) -> list[str]:
    missing = [name for name in _METHODS if not callable(getattr(found, name, None))]
    is_type = isinstance(getattr(found, "config_type", None), type)
    return missing if is_type else ["config_type", *missing]


def _require_countable(num_examples: int, metrics: Mapping[str, float]) -> None:
    if num_examples < 1:
        raise TrainerError(f"num_examples is {num_examples}, wanted at least 1")
    wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if wrong:
        raise TrainerError(f"metrics {wrong} are not finite: leave out what is undefined")
