"""What a researcher does with runs, by the `hansa` command, while real sites work."""

import tomllib
from pathlib import Path

from hansa_core.states import RunState
from tests.e2e.federations import NAMES, Federation, plan
from tests.e2e.processes import HEARTBEAT_SECONDS, until

SLACK_SECONDS = 5.0  # of a loaded machine


def test_a_cancelled_run_stops_its_sites_within_a_heartbeat(federation: Federation) -> None:
    federation.enroll_three()
    long = plan(training={"steps": 30_000})  # five minutes a round
    run_id = federation.client.create_run(federation.slug, long).id
    federation.until_training(run_id, 1, *NAMES)
    federation.cli("run", "cancel", str(run_id), "-f", federation.slug)
    sites = federation.sites.values()
    until(
        lambda: all("abandoned" in site.said for site in sites),
        "sites that stopped",
        seconds=HEARTBEAT_SECONDS + SLACK_SECONDS,
    )
    assert federation.client.run(federation.slug, run_id).state is RunState.CANCELLED

    short = plan(rounds=1, training={"steps": 1})
    after = federation.until_ended(federation.client.create_run(federation.slug, short).id)
    assert after.state is RunState.COMPLETED


def test_a_plan_with_three_wrong_fields_names_all_three(
    federation: Federation, tmp_path: Path
) -> None:
    text = """
        name = "fit"
        model = "line"
        rounds = 0
        [cohort]
        min_sites = "two"
        [strategy]
        name = "fedavgg"
    """
    assert tomllib.loads(text)["rounds"] == 0
    file = tmp_path / "plan.toml"
    file.write_text(text)
    refused = federation.cli("run", "create", str(file), "-f", federation.slug, expect=1)
    for path in ("rounds", "cohort.min_sites", "strategy.name"):
        assert f"{path}: " in refused.stderr
    assert "'fedavgg'" in refused.stderr
    assert list(federation.client.runs(federation.slug)) == []


def test_a_run_created_with_watch_ends_with_its_state(
    federation: Federation, tmp_path: Path
) -> None:
    federation.enroll_three()
    file = tmp_path / "plan.json"
    file.write_text(plan(rounds=2, training={"steps": 1}).model_dump_json())
    watched = federation.cli("run", "create", str(file), "--watch", "-f", federation.slug).stdout
    assert watched.count("round.completed") == 3  # two of training, one of evaluation
    assert "run fit is completed" in watched
    model = tmp_path / "model.safetensors"
    chosen = ("-o", str(model), "-f", federation.slug)
    downloaded = federation.cli("checkpoint", "download", "fit", *chosen).stdout
    (run,) = federation.client.runs(federation.slug)
    assert federation.digest_of(run) in downloaded
    assert model.stat().st_size > 0
