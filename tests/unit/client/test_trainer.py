"""The trainer's boundary: seeds, typed configuration, loading by name, and the delta rule."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from hansa.trainer import (
    ConfigError,
    EvalResult,
    TensorsError,
    TrainerError,
    TrainerNotFoundError,
    TrainResult,
    applies_term,
    delta,
    derive_seed,
    load_trainer,
    parse_config,
    write_delta,
)
from hansa_core.dtypes import BFLOAT16, bf16_to_f32, f32_to_bf16
from hansa_core.layouts import Layout
from hansa_core.tensors import write_tensors

TRAINER_SOURCE = """
class Config:
    pass


class Mean:
    config_type = Config

    def initial_tensors(self, config, seed):
        return {}

    def train(self, tensors, context):
        raise NotImplementedError

    def evaluate(self, tensors, context):
        return None


class Unfinished:
    config_type = Config

    def train(self, tensors, context):
        raise NotImplementedError


def make():
    return Mean()


def make_from(path):
    return Mean()


class Holder:
    inner = Mean()


ready = Mean()
number = 7
"""


@dataclass(frozen=True)
class Plain:
    epochs: int
    rate: float = 0.1


class Modelled(BaseModel):
    epochs: int = Field(ge=1)
    rate: float = 0.1
    sizes: tuple[int, ...] = ()


@pytest.fixture
def write_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_seed_is_the_documented_hash() -> None:
    # printf 'hansa/seed/v1\0007\0003\000cleveland\000' | sha256sum, first 63 bits
    assert derive_seed(7, 3, "cleveland") == 4223354191393072282


def test_seed_differs_by_run_round_and_site() -> None:
    seeds = {
        derive_seed(run, round_number, site)
        for run in range(5)
        for round_number in range(1, 6)
        for site in ("a", "b", "1", "11")
    }
    assert len(seeds) == 5 * 5 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_parts_do_not_run_together() -> None:
    assert derive_seed(1, 11, "a") != derive_seed(11, 1, "a")


def test_seed_for_another_purpose_is_another_and_documented() -> None:
    # printf 'hansa/seed/v1\0007\0003\000cleveland\000rounding\000' | sha256sum, first 63 bits
    assert derive_seed(7, 3, "cleveland", "rounding") == 5982172788875316561
    assert derive_seed(7, 3, "cleveland", "") == derive_seed(7, 3, "cleveland")


@pytest.mark.parametrize("config_type", [Plain, Modelled])
def test_config_is_typed(config_type: type[Plain | Modelled]) -> None:
    config = parse_config(config_type, {"epochs": 3, "rate": 1})
    assert (config.epochs, config.rate) == (3, 1.0)
    assert isinstance(config, config_type)


@pytest.mark.parametrize("config_type", [Plain, Modelled])
def test_every_wrong_field_is_reported_at_once(config_type: type[Plain | Modelled]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(config_type, {"epochs": "3", "rate": True, "epoch": 1, "lr": 0.1})
    assert sorted(path for path, _ in caught.value.problems) == [
        "training.epoch",
        "training.epochs",
        "training.lr",
        "training.rate",
    ]
    assert "wanted one of: epochs, rate" in str(caught.value)
    assert "'3'" in str(caught.value)


def test_missing_and_nested_fields_are_named_by_path() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Modelled, {"sizes": [1, "two"]})
    assert [path for path, _ in caught.value.problems] == ["training.epochs", "training.sizes.1"]


def test_lists_and_integers_of_a_table_become_tuples_and_floats() -> None:
    assert parse_config(Modelled, {"epochs": 1, "sizes": [2, 3]}).sizes == (2, 3)


@pytest.mark.parametrize("name", ["ready", "Mean", "make", "Holder.inner"])
def test_object_class_and_factory_are_loaded_from_cwd(
    write_module: Callable[[str, str], None], name: str
) -> None:
    write_module("my_trainer", TRAINER_SOURCE)
    assert type(load_trainer(f"my_trainer:{name}")).__name__ == "Mean"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("my_trainer", "wanted the form package.module:object"),
        ("my_trainer:", "wanted the form package.module:object"),
        ("nowhere:ready", "no module 'nowhere'"),
        ("my_trainer.deeper:ready", "no module 'my_trainer.deeper'"),
        ("my_trainer:redy", "my_trainer has no 'redy', it has: Config, Mean, "),
        ("my_trainer:number", "a int is no trainer, it lacks config_type, initial_tensors,"),
        ("my_trainer:Unfinished", "Unfinished is no trainer, it lacks initial_tensors, evaluate"),
        ("my_trainer:make_from", "called without arguments, but missing a required argument"),
    ],
)
def test_a_wrong_trainer_is_named(
    write_module: Callable[[str, str], None], spec: str, message: str
) -> None:
    write_module("my_trainer", TRAINER_SOURCE)
    with pytest.raises(TrainerNotFoundError, match=f"^trainer '{spec}'") as caught:
        load_trainer(spec)
    assert message in str(caught.value)


def test_a_missing_import_inside_the_module_is_not_blamed_on_the_name(
    write_module: Callable[[str, str], None],
) -> None:
    write_module("my_trainer", "import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_trainer("my_trainer:ready")


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2"])
def test_float_delta_is_one_ieee_subtraction(dtype: str) -> None:
    rng = np.random.default_rng(3)
    local, base = (rng.normal(size=(4, 5)).astype(dtype) for _ in range(2))
    (difference,) = delta({"w": local}, {"w": base}).values()
    assert difference.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(difference, local - base)


@settings(deadline=None)  # the machine may be busy
@given(
    hnp.arrays(np.float32, 8, elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    hnp.arrays(np.float32, 8, elements=st.floats(-(2.0**100), 2.0**100, width=32)),
)
def test_bfloat16_delta_rounds_the_difference_once(
    x: NDArray[np.float32], y: NDArray[np.float32]
) -> None:
    local, base = (f32_to_bf16(values).view(BFLOAT16) for values in (x, y))
    (difference,) = delta({"w": local}, {"w": base}).values()
    wanted = f32_to_bf16(bf16_to_f32(local) - bf16_to_f32(base))
    assert difference.dtype == BFLOAT16
    np.testing.assert_array_equal(difference.view("<u2"), wanted)


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_integer_delta_is_exact_or_refused(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.int8, np.int16, np.int32, np.int64]))
    bounds = np.iinfo(dtype)
    elements = st.integers(int(bounds.min), int(bounds.max))
    x, y = data.draw(elements), data.draw(elements)
    local, base = {"n": np.array(x, dtype)}, {"n": np.array(y, dtype)}
    if bounds.min <= x - y <= bounds.max:
        difference = delta(local, base)["n"]
        assert (int(difference), difference.dtype, difference.shape) == (x - y, dtype, ())
    else:
        with pytest.raises(TensorsError, match="n: the difference overflows"):
            delta(local, base)


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_unsigned_buffers_pass_only_unchanged(dtype: type[Any]) -> None:
    base = np.array([0, 1, 1], dtype)
    assert not delta({"mask": base.copy()}, {"mask": base})["mask"].any()
    with pytest.raises(TensorsError, match="mask: 1 of 3 values changed"):
        delta({"mask": np.array([1, 1, 1], dtype)}, {"mask": base})


def test_everything_that_does_not_fit_is_named_at_once() -> None:
    zeros = np.zeros(2, np.float32)
    base = {"a": zeros, "b": zeros, "c": zeros, "d": zeros, "e": zeros.astype(np.complex64)}
    local = {
        "b": np.zeros(3, np.float32),
        "c": np.zeros(2, np.float64),
        "d": np.array([np.nan, 1], np.float32),
        "e": base["e"],
        "z": zeros,
    }
    with pytest.raises(TensorsError) as caught:
        delta(local, base)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["z", "a", "b", "c", "d", "e"]
    assert "local shape (3,), global shape (2,)" in lines[2]
    assert "local dtype float64, global dtype float32" in lines[3]
    assert "1 of 2 values are not finite" in lines[4]


def test_an_overflowing_float_difference_is_refused() -> None:
    big = np.array([65504], np.float16)
    with pytest.raises(TensorsError, match="w: 1 of 1 values are not finite"):
        delta({"w": big}, {"w": -big})


def test_a_delta_of_some_tensors_only_looks_at_the_shape_of_others() -> None:
    ones, wrong = np.ones(2, np.float32), np.full(2, np.nan, np.float32)
    base = {"a": ones, "b": ones, "c": ones}
    assert list(delta({"a": ones, "b": wrong, "c": ones}, base, {"a", "c"})) == ["a", "c"]
    with pytest.raises(TensorsError) as caught:
        delta({"a": ones, "c": np.ones(3, np.float32)}, base, {"a"})
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == ["b", "c"]


def test_a_written_delta_is_the_file_of_the_delta() -> None:
    rng = np.random.default_rng(5)
    local: dict[str, NDArray[Any]] = {
        "transposed": rng.normal(size=(3, 4)).astype("<f4").T,
        "wide": rng.normal(size=5),
        "bits": f32_to_bf16(rng.normal(size=7).astype("<f4")).view(BFLOAT16),
        "count": np.array(7, "<i8"),
        "empty": np.zeros((0, 2), "<f4"),
        "kept": np.ones(3, "<f4"),
    }
    base = {name: np.zeros_like(array) for name, array in local.items()}
    names = [name for name in base if name != "kept"]
    file, wanted = bytearray(), bytearray()
    layout = Layout.of({name: base[name] for name in names})
    assert write_delta(local, base, layout, file.extend) == len(file)
    write_tensors(delta(local, base, names), wanted.extend)
    assert file == wanted


def test_a_delta_that_cannot_be_written_names_everything_at_once() -> None:
    ones, wrong = np.ones(2, np.float32), np.full(2, np.nan, np.float32)
    base = {"a": ones, "b": ones, "c": ones}
    layout = Layout.of({"a": ones, "b": ones})
    with pytest.raises(TensorsError) as caught:
        write_delta({"a": wrong, "b": wrong, "c": np.ones(3)}, base, layout, bytearray().extend)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["a", "b", "c"]


def test_inputs_of_a_delta_stay_as_they_are() -> None:
    local, base = np.ones(2, np.float32), np.ones(2, np.float32)
    delta({"w": local}, {"w": base})["w"] += 5
    assert local.tolist() == base.tolist() == [1, 1]


def test_results_without_examples_or_with_undefined_metrics_are_refused() -> None:
    with pytest.raises(TrainerError, match="num_examples is 0, wanted at least 1"):
        TrainResult({}, 0, {})
    with pytest.raises(TrainerError, match="'auc': nan"):
        EvalResult(3, {"auc": float("nan"), "loss": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("normaliser", float("nan")),
        ("normaliser", -1.0),
        ("base_loss", float("inf")),
    ],
)
def test_numbers_for_strategies_are_finite_and_in_range(name: str, value: float) -> None:
    with pytest.raises(TrainerError, match=f"{name} is {value}, wanted a finite number"):
        TrainResult({}, 1, {}, **{name: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("attributes", "applies"),
    [({}, False), ({"applies_term": True}, True), ({"applies_term": "yes"}, False)],
)
def test_only_a_trainer_that_says_so_applies_terms(
    attributes: dict[str, Any], applies: bool
) -> None:
    assert applies_term(type("Some", (), attributes)()) is applies
