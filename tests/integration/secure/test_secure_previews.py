"""What is foretold of a secure run, and what curves show of one: sums, and nobody's own numbers."""

from typing import Any

from hansa_core import wire
from hansa_core.states import RunState
from tests.factories import Federation, a_plan, a_run
from tests.secure_sites import SECURE, SecureSite, whole_round
from tests.tensors import a_delta

PLAN: dict[str, Any] = {"cohort": {"min_sites": 3}, "secure": dict(SECURE)}


def foretold(federation: Federation, **plan: Any) -> wire.RunPreview:
    body = {"plan": a_plan(**{**PLAN, **plan})}
    return wire.RunPreview.model_validate(federation.post("/runs/preview", body, expect=200))


def test_a_secure_round_moves_what_was_foretold_and_its_curve_is_of_the_sums(
    federation: Federation, sites: list[SecureSite]
) -> None:
    told = foretold(federation)
    run = a_run(federation, **PLAN, name="secure")
    whole_round(
        run.id,
        sites,
        lambda site, task: site.work(
            task, a_delta(1), weight=10, metrics={"train/loss": (0.5, 10)}
        ),
    )
    ended = federation.run(run.id)
    assert (ended.state, ended.bytes_moved) == (RunState.COMPLETED, told.bytes_total)
    assert told.bytes_per_round == len(sites) * (told.bytes_down + told.bytes_up)
    found = federation.get("/curves", run=[str(run.id)], sites=True)
    (drawn,) = wire.CurveSet.model_validate(found).runs
    losses = {curve.name: curve for curve in drawn.curves if curve.kind == "train"}
    assert losses["loss"].rounds == [1]
    assert losses["loss"].aggregated[0] is not None
    assert abs(losses["loss"].aggregated[0] - 0.5) < 0.01
    assert all(curve.sites == [] for curve in drawn.curves)


def test_lanes_say_how_small_and_few_sites_are_warned_of(
    federation: Federation, sites: list[SecureSite]
) -> None:
    assert len(sites) == 4
    wide = foretold(federation, secure={"quantiser": {"lanes": 2}})
    narrow = foretold(federation, secure={"quantiser": {"lanes": 5}})
    assert narrow.bytes_up < wide.bytes_up
    (few,) = [it for it in wide.warnings if it.startswith("a sum may be of 3 updates only")]
    assert "2 of these sites together" in few
