"""Strategies that ask something of sites, with real sites and a real hub."""

import shutil
from typing import Any

import pytest

from hansa_core.states import RunState
from tests.e2e.federations import NAMES, Federation, plan

ROUNDS = 3
SPARSE = {"name": "topk", "fraction": 0.5}


@pytest.mark.parametrize(
    ("strategy", "codec", "files"),
    [
        ({"name": "scaffold"}, SPARSE, {"control", "residual"}),
        ({"name": "qfedavg", "q": 1.0, "lipschitz": 20.0}, {"name": "int8"}, set[str]()),
    ],
    ids=["scaffold", "qfedavg"],
)
def test_sites_do_what_a_strategy_asks_and_a_restart_changes_nothing(
    federation: Federation, strategy: dict[str, Any], codec: dict[str, Any], files: set[str]
) -> None:
    changes = {"rounds": ROUNDS, "strategy": strategy, "codec": codec}
    federation.enroll_three()
    first = next(iter(federation.client.checkpoints(federation.slug, "line"))).id
    quick = plan(name="undisturbed", **changes)
    undisturbed = federation.until_ended(
        federation.client.create_run(federation.slug, quick, checkpoint_id=first).id
    )
    assert undisturbed.state is RunState.COMPLETED, undisturbed.state_reason
    for site in federation.sites.values():
        kept = {path.stem for path in site.state_dir.glob("memory/*/*/*.safetensors")}
        assert kept == files
        assert "begins anew" not in site.said

    again = plan(name="killed", **changes)
    run_id = federation.client.create_run(federation.slug, again, checkpoint_id=first).id
    federation.until_training(run_id, 2, *NAMES[:1])
    federation.sites[NAMES[0]].kill()
    federation.sites[NAMES[0]].start()
    killed = federation.until_ended(run_id)
    assert killed.state is RunState.COMPLETED, killed.state_reason
    assert federation.digest_of(killed) == federation.digest_of(undisturbed)
    federation.require_counted_once(killed)


def test_a_site_that_lost_its_memory_begins_anew_and_says_so(federation: Federation) -> None:
    federation.enroll_three()
    run_id = federation.client.create_run(
        federation.slug, plan(rounds=3, strategy={"name": "scaffold"})
    ).id
    site = federation.sites[NAMES[0]]
    federation.until_training(run_id, 2, NAMES[0])
    site.kill()
    shutil.rmtree(site.state_dir / "memory")
    site.start()
    assert federation.until_ended(run_id).state is RunState.COMPLETED
    assert "this site begins anew" in site.said
