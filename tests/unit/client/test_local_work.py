"""A site's side of strategies, tensor groups and codecs, against a hub over real HTTP."""

import hashlib
import json
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa.identity import StateDir
from hansa.journal import store_tensors
from hansa_core import wire
from hansa_core.codecs.files import decode
from hansa_core.codecs.plans import Int8Plan, LossyPlan, Rounding, TopKPlan
from hansa_core.layouts import Layout
from hansa_core.local_work import (
    ControlVariates,
    Correction,
    DynamicRegularisation,
    LocalWork,
    Proximal,
    Scalar,
)
from hansa_core.states import RoundKind
from hansa_core.tensor_groups import TensorGroupPlan, TensorsPlan
from hansa_core.tensors import bytes_reader, read_tensors
from tests.unit.client.fake_hub import FakeHub, problem, serving
from tests.unit.client.sites import RATE, SgdTrainer, enrolled, remembered, run_site

Arrays = Mapping[str, NDArray[Any]]

MODEL = {  # matrices: codecs leave short vectors whole
    "body": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "deep": np.linspace(0, 1, 6).reshape(2, 3),  # float64
    "head": np.linspace(2, 3, 6, dtype=np.float32).reshape(2, 3),
    "stem": np.linspace(4, 5, 6, dtype=np.float32).reshape(2, 3),
    "count": np.array(7, np.int64),
}
FLOATS = ("body", "deep", "head", "stem")
SCAFFOLD = LocalWork(correction=ControlVariates(kind="control-variates"))
SPLIT = TensorsPlan(personal=["head"], frozen=["st*"])


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


@pytest.fixture
def state(hub: FakeHub, tmp_path: Path) -> StateDir:
    return enrolled(hub, tmp_path / "site")


@pytest.fixture
def model(hub: FakeHub, tmp_path: Path) -> wire.CheckpointRef:
    return hub.add_checkpoint(store_tensors(tmp_path / "model", MODEL).path.read_bytes())


def slot_of(hub: FakeHub, path: Path, tensors: Arrays) -> wire.SlotRef:
    stored = store_tensors(path / "slot", tensors)
    hub.blobs[stored.digest] = stored.path.read_bytes()
    return wire.SlotRef(name="control", digest=stored.digest, size=stored.size)


def read(content: bytes) -> dict[str, NDArray[Any]]:
    return read_tensors(bytes_reader(content), len(content))


def control_like(value: float) -> dict[str, NDArray[Any]]:
    return {name: np.full_like(MODEL[name], value) for name in FLOATS}


def memory_of(state: StateDir, task: wire.Task, name: str) -> dict[str, NDArray[Any]]:
    path = state.path / "memory" / str(task.run_id) / str(task.id) / f"{name}.safetensors"
    return read(path.read_bytes())


def test_a_plain_task_leaves_nothing_and_says_nothing_new(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    hub.add_task(model)
    trainer = SgdTrainer(applies_term=False, told={})
    assert run_site(state, trainer).done == 1
    context = trainer.trained[0].context
    assert (context.term, context.wants, context.fixed) == (None, frozenset(), frozenset())
    said = hub.updates[0].manifest.model_dump()
    assert not {"groups", "scalars", "parts"} & set(said)
    assert hub.parts == []
    assert {path.name for path in state.path.iterdir() if path.is_dir()} == {"tasks", "checkpoints"}


def test_a_claim_says_all_that_this_sdk_can_do(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    hub.add_task(model)
    run_site(state, SgdTrainer())
    assert set(hub.features) == set(wire.Feature)


def test_control_variates_go_on_from_the_followed_task(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef, tmp_path: Path
) -> None:
    trainer, run_id = SgdTrainer(), uuid4()
    first = hub.add_task(model, run_id=run_id, local_work=SCAFFOLD)
    assert run_site(state, trainer).done == 1
    term = trainer.trained[0].context.term
    assert term is not None
    assert (term.shift, term.pull, term.tensors) == (None, 0.0, frozenset(FLOATS))
    control = memory_of(state, first, "control")
    (name, digest, content) = hub.parts[0]
    assert (name, hashlib.sha256(content).hexdigest()) == ("control", digest)
    for tensor, change in read(content).items():
        np.testing.assert_array_equal(change, control[tensor])  # c_k was zero
        moved = read(hub.uploads[0][1])[tensor]
        np.testing.assert_allclose(change, -moved / (2.5 * RATE), rtol=1e-5)

    slot = slot_of(hub, tmp_path, control_like(0.25))
    second = hub.add_task(
        model, run_id=run_id, local_work=SCAFFOLD, slots=[slot], follows=first.id, round_number=2
    )
    assert run_site(state, trainer).done == 1
    term = trainer.trained[1].context.term
    assert term is not None
    assert term.shift is not None
    renewed, change, moved = (
        memory_of(state, second, "control"),
        read(hub.parts[1][2]),
        read(hub.uploads[1][1]),
    )
    for tensor in FLOATS:
        np.testing.assert_allclose(term.shift[tensor], 0.25 - control[tensor], rtol=1e-6)
        wanted = control[tensor] - 0.25 - moved[tensor] / (2.5 * RATE)
        np.testing.assert_allclose(renewed[tensor], wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            change[tensor], renewed[tensor] - control[tensor], rtol=1e-4, atol=1e-6
        )
    manifest = hub.updates[1].manifest
    assert manifest.parts["control"].digest == hub.parts[1][1]


def test_a_slot_is_downloaded_once_and_goes_with_its_round(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef, tmp_path: Path
) -> None:
    slot = slot_of(hub, tmp_path, control_like(0.25))
    for _ in range(2):
        hub.add_task(model, local_work=SCAFFOLD, slots=[slot])
    assert run_site(state, SgdTrainer(), tasks=2).done == 2
    assert hub.count("/slots/control") == 1
    hub.add_task(model)
    run_site(state, SgdTrainer())
    assert list((state.path / "slots").iterdir()) == []


def test_the_update_that_did_not_count_is_not_gone_on_from(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    work = LocalWork(correction=DynamicRegularisation(kind="dynamic", alpha=0.5))
    trainer, run_id = SgdTrainer(), uuid4()
    first = hub.add_task(model, run_id=run_id, local_work=work)
    burnt = hub.add_task(model, run_id=run_id, local_work=work, follows=first.id, round_number=2)
    third = hub.add_task(model, run_id=run_id, local_work=work, follows=first.id, round_number=3)
    assert run_site(state, trainer, tasks=3).done == 3
    dual = memory_of(state, first, "dual")
    assert memory_of(state, burnt, "dual")["body"].tolist() != dual["body"].tolist()
    terms = [seen.context.term for seen in trainer.trained]
    assert terms[0] is not None
    assert (terms[0].shift, terms[0].pull) == (None, 0.5)
    for term in terms[1:]:
        assert term is not None
        assert term.shift is not None
        np.testing.assert_array_equal(term.shift["body"], -dual["body"])
    moved = read(hub.uploads[2][1])["body"]
    np.testing.assert_allclose(
        memory_of(state, third, "dual")["body"], dual["body"] - 0.5 * moved, rtol=1e-4, atol=1e-6
    )


def test_a_site_that_follows_nothing_begins_anew_without_a_word(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    trainer, run_id = SgdTrainer(), uuid4()
    for _ in range(2):
        hub.add_task(model, run_id=run_id, local_work=SCAFFOLD)
    told = run_site(state, trainer, tasks=2)
    assert told.messages("memory_missing") == []
    term = trainer.trained[1].context.term
    assert term is not None
    assert term.shift is None


def test_a_fork_goes_on_from_its_parents_task(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    trainer = SgdTrainer()
    parent = hub.add_task(model, local_work=SCAFFOLD)
    hub.add_task(model, local_work=SCAFFOLD, follows=parent.id)
    assert run_site(state, trainer, tasks=2).done == 2
    term = trainer.trained[1].context.term
    assert term is not None
    assert term.shift is not None
    control = memory_of(state, parent, "control")
    np.testing.assert_array_equal(term.shift["deep"], -control["deep"])


def test_a_memory_that_is_not_here_is_begun_anew_and_said(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    lost = uuid4()
    hub.add_task(model, local_work=SCAFFOLD, follows=lost)
    trainer = SgdTrainer()
    told = run_site(state, trainer)
    assert told.done == 1
    (message,) = told.messages("memory_missing")
    assert message == f"there is no control of task {lost} here: this site begins anew"
    assert trainer.trained[0].context.term is not None


def test_a_memory_of_other_tensors_is_begun_anew_and_said(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    first = hub.add_task(model, local_work=SCAFFOLD)
    hub.add_task(model, local_work=SCAFFOLD, tensors=SPLIT, follows=first.id)
    told = run_site(state, SgdTrainer(), tasks=2)
    assert told.done == 2
    assert [message.partition(" of task")[0] for message in told.messages("memory_missing")] == [
        "there is no personal",
        "the control",
    ]


@pytest.mark.parametrize(
    "correction",
    [
        Proximal(kind="proximal", mu=0.1),
        ControlVariates(kind="control-variates"),
        DynamicRegularisation(kind="dynamic", alpha=0.1),
    ],
)
def test_a_trainer_that_applies_no_term_fails_before_it_costs_anything(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef, correction: Correction
) -> None:
    hub.add_task(model, local_work=LocalWork(correction=correction))
    trainer = SgdTrainer(applies_term=False)
    assert run_site(state, trainer).failed == 1
    assert f"({correction.kind}), and SgdTrainer does not" in hub.failures[0].error
    assert "applies_term = True" in hub.failures[0].error
    assert (trainer.trained, hub.count("/checkpoint")) == ([], 0)


def test_only_the_numbers_that_are_asked_for_are_told(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    told = {"steps": 2, "learning_rate": RATE, "normaliser": 2.5, "base_loss": -1.25}
    for scalars in ([Scalar.NORMALISER], [Scalar.BASE_LOSS], []):
        hub.add_task(model, local_work=LocalWork(scalars=scalars))
    trainer = SgdTrainer(told=told)
    assert run_site(state, trainer, tasks=3).done == 3
    assert [update.manifest.scalars for update in hub.updates] == [
        {Scalar.NORMALISER: 2.5},
        {Scalar.BASE_LOSS: -1.25},
        {},
    ]
    assert [set(seen.context.wants) for seen in trainer.trained] == [
        {Scalar.NORMALISER},
        {Scalar.BASE_LOSS},
        set(),
    ]


@pytest.mark.parametrize(
    ("work", "told", "named"),
    [
        (LocalWork(scalars=[Scalar.NORMALISER]), {"steps": 2}, "needs normaliser of every update"),
        (LocalWork(scalars=[Scalar.BASE_LOSS]), {}, "needs base_loss of every update"),
        (SCAFFOLD, {"learning_rate": 0.1}, "need steps in TrainResult"),
        (SCAFFOLD, {"normaliser": 2.0}, "need learning_rate in TrainResult"),
        (SCAFFOLD, {}, "need steps and learning_rate in TrainResult"),
    ],
)
def test_a_number_that_the_trainer_did_not_tell_is_named(
    hub: FakeHub,
    state: StateDir,
    model: wire.CheckpointRef,
    work: LocalWork,
    told: dict[str, Any],
    named: str,
) -> None:
    hub.add_task(model, local_work=work)
    assert run_site(state, SgdTrainer(told=told)).failed == 1
    assert named in hub.failures[0].error
    assert (hub.uploads, remembered(state)) == ([], set())


def test_personal_tensors_stay_and_are_gone_on_with(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    trainer, run_id = SgdTrainer(changes_fixed=True), uuid4()
    first = hub.add_task(model, run_id=run_id, tensors=SPLIT, evaluate=True)
    second = hub.add_task(
        model, run_id=run_id, tensors=SPLIT, follows=first.id, evaluate=True, round_number=2
    )
    hub.add_task(model, run_id=run_id, tensors=SPLIT, follows=second.id, kind=RoundKind.EVALUATE)
    assert run_site(state, trainer, tasks=3).done == 3
    for _, content in hub.uploads:
        assert set(read(content)) == {"body", "deep", "count"}
    assert trainer.trained[0].context.fixed == {"stem"}
    own = [memory_of(state, task, "personal") for task in (first, second)]
    assert [set(tensors) for tensors in own] == [{"head"}, {"head"}]
    heads = [seen.tensors["head"].tolist() for seen in (*trainer.trained, *trainer.evaluated)]
    start, after, last = MODEL["head"].tolist(), own[0]["head"].tolist(), own[1]["head"].tolist()
    assert heads == [start, after, start, after, last]
    assert len({str(start), str(after), str(last)}) == 3
    for seen in (*trainer.trained, *trainer.evaluated):  # frozen: the checkpoint's throughout
        assert seen.tensors["stem"].tolist() == MODEL["stem"].tolist()
        assert not seen.tensors["head"].flags.writeable


def test_personal_tensors_that_are_not_finite_are_not_remembered(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    plan = TensorsPlan(personal=["body", "stem", "head"])
    hub.add_task(model, tensors=plan, training={"drift": 1e300})
    assert run_site(state, SgdTrainer()).failed == 1  # float64 alone is uploaded, and finite
    assert "personal tensors are not finite: body, head, stem" in hub.failures[0].error
    assert remembered(state) == set()


@pytest.mark.parametrize(
    ("held", "uploaded"),
    [([], {"body", "deep"}), (["a"], {"body", "deep", "head"}), (["a", "b"], set(MODEL) - {"n"})],
)
def test_a_site_uploads_and_trains_the_groups_that_it_holds(
    hub: FakeHub,
    state: StateDir,
    model: wire.CheckpointRef,
    held: list[str],
    uploaded: set[str],
) -> None:
    groups = [
        TensorGroupPlan(name="a", tensors=["head"]),
        TensorGroupPlan(name="b", tensors=["stem", "count"]),
    ]
    hub.add_task(model, tensors=TensorsPlan(groups=groups), groups=held, local_work=SCAFFOLD)
    trainer = SgdTrainer()
    assert run_site(state, trainer).done == 1
    assert set(read(hub.uploads[0][1])) == uploaded
    assert set(read(hub.parts[0][2])) == uploaded - {"count"}
    assert hub.updates[0].manifest.groups == held
    assert trainer.trained[0].context.fixed == set(MODEL) - uploaded


def decoded(content: bytes, plan: LossyPlan, layout: Layout | None = None) -> Any:
    return decode(bytes_reader(content), len(content), layout or Layout.of(MODEL), plan)


def test_an_encoded_update_is_what_the_codec_makes_of_the_delta(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    plan = Int8Plan(name="int8", block=16)
    hub.add_task(model)
    hub.add_task(model, codec=plan)
    assert run_site(state, SgdTrainer(), tasks=2).done == 2
    exact, coded = read(hub.uploads[0][1]), decoded(hub.uploads[1][1], plan)
    assert coded["count"] == exact["count"]
    for name in FLOATS:
        np.testing.assert_allclose(coded[name], exact[name], atol=np.abs(exact[name]).max() / 200)
    assert remembered(state) == set()  # every value was sent


def test_stochastic_rounding_is_drawn_from_the_task(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    plan = Int8Plan(name="int8", rounding=Rounding.STOCHASTIC)
    for number in (1, 1, 2):
        hub.add_task(model, codec=plan, round_number=number)
    hub.add_task(model, codec=Int8Plan(name="int8"))
    assert run_site(state, SgdTrainer(), tasks=4).done == 4
    first, again, second, nearest = (content for _, content in hub.uploads)
    assert first == again
    assert len({first, second, nearest}) == 3


def test_what_a_sparse_update_leaves_out_is_sent_later(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    plan = TopKPlan(name="topk", fraction=0.3)
    run_id, tasks = uuid4(), list[wire.Task]()
    for number in range(1, 6):
        hub.add_task(model, round_number=number)  # the same deltas, exactly
        follows = tasks[-1].id if tasks else None
        tasks.append(
            hub.add_task(model, run_id=run_id, codec=plan, round_number=number, follows=follows)
        )
    assert run_site(state, SgdTrainer(), tasks=10).done == 10
    contents = [content for _, content in hub.uploads]
    residual = memory_of(state, tasks[-1], "residual")
    assert set(residual) == set(FLOATS)
    for name in FLOATS:
        deltas = sum(read(content)[name].astype(float) for content in contents[::2])
        sent = sum(decoded(content, plan)[name].astype(float) for content in contents[1::2])
        assert residual[name].dtype == np.float32
        assert np.abs(residual[name]).max() > 0
        np.testing.assert_allclose(sent + residual[name], deltas, rtol=1e-5, atol=1e-5)


def test_the_residual_of_an_update_that_did_not_count_is_dropped(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    plan, run_id = TopKPlan(name="topk", fraction=0.3), uuid4()
    for number, follows in ((1, None), (2, None)):  # the first was refused
        hub.add_task(model, run_id=run_id, codec=plan, round_number=number, follows=follows)
    hub.add_task(model, codec=plan, round_number=2)
    assert run_site(state, SgdTrainer(), tasks=3).done == 3
    assert hub.uploads[1] == hub.uploads[2]


def test_an_encoded_answer_with_parts_is_sent_again_as_it_was(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef
) -> None:
    hub.add_task(model, local_work=SCAFFOLD, codec=TopKPlan(name="topk"))
    hub.fail("PUT", "/update", lambda: problem(409, "lease-lost", "another process has it"))
    trainer = SgdTrainer()
    run_site(state, trainer)
    assert [path.name for path in sorted((state.path / "tasks").glob("*/*"))] == [
        "answer.json",
        "delta.hansa",
        "part-control.safetensors",
    ]
    assert run_site(state, trainer).messages("task_resumed") != []
    assert len(trainer.trained) == 1
    assert hub.uploads[0] == hub.uploads[1]
    assert hub.parts[0] == hub.parts[1]


@pytest.mark.parametrize("torn", ["delta.hansa", "part-control.safetensors"])
def test_a_torn_file_of_an_answer_is_made_again(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef, torn: str
) -> None:
    task = hub.add_task(model, local_work=SCAFFOLD, codec=TopKPlan(name="topk"))
    hub.fail("PUT", "/update", lambda: problem(409, "lease-lost", "another process has it"))
    trainer = SgdTrainer()
    run_site(state, trainer)
    os.truncate(state.path / "tasks" / str(task.id) / torn, 10)
    assert run_site(state, trainer).done == 1
    assert len(trainer.trained) == 2
    assert hub.uploads[0] == hub.uploads[1]  # the trainer repeats itself


def test_everything_at_once_survives_restarts(
    hub: FakeHub, state: StateDir, model: wire.CheckpointRef, tmp_path: Path
) -> None:
    groups = [TensorGroupPlan(name="a", tensors=["deep"])]
    plan = TensorsPlan(personal=["head"], frozen=["stem"], groups=groups)
    follows: UUID | None = None
    trainer, run_id = SgdTrainer(), uuid4()
    slot = slot_of(hub, tmp_path, {"body": MODEL["body"], "deep": MODEL["deep"]})
    for number in range(1, 4):
        task = hub.add_task(
            model,
            run_id=run_id,
            round_number=number,
            local_work=LocalWork(correction=SCAFFOLD.correction, scalars=[Scalar.NORMALISER]),
            slots=[slot],
            tensors=plan,
            groups=["a"],
            codec=TopKPlan(name="topk", fraction=0.5),
            follows=follows,
        )
        told = run_site(state, trainer)
        assert (told.done, told.messages("memory_missing")) == (1, [])
        follows = task.id
        files = {name for name in remembered(state) if name.startswith(str(task.id))}
        names = ("control", "personal", "residual")
        assert files == {f"{task.id}/{name}" for name in names}
    layout = Layout.of({name: MODEL[name] for name in ("body", "deep", "count")})
    assert set(decoded(hub.uploads[-1][1], TopKPlan(name="topk", fraction=0.5), layout)) == {
        "body",
        "deep",
        "count",
    }
    said = json.loads(hub.updates[-1].manifest.model_dump_json())
    assert said["groups"] == ["a"]
    assert said["scalars"] == {"normaliser": 2.5}
