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
        rounds = -1
        [cohort]
        min_sites = "two"
        [strategy]
        name = "fedavgg"
    """
    assert tomllib.loads(text)["rounds"] == -1
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


def test_a_run_is_paused_at_once_resumed_verified_forked_and_evaluated_by_command(
    federation: Federation,
) -> None:
    def hansa(*arguments: str, expect: int = 0) -> str:
        return federation.cli(*arguments, "-f", federation.slug, expect=expect).stdout

    federation.enroll_three()
    first = next(iter(federation.client.checkpoints(federation.slug, "line"))).id
    quick = plan(name="undisturbed", rounds=3, training={"steps": 200})
    undisturbed = federation.until_ended(
        federation.client.create_run(federation.slug, quick, checkpoint_id=first).id
    )
    slow = plan(name="fit", rounds=3, training={"steps": 200})
    run_id = federation.client.create_run(federation.slug, slow, checkpoint_id=first).id
    federation.until_training(run_id, 2)
    assert "run fit is paused" in hansa("run", "pause", "fit", "--burn")
    assert "run fit is queued" in hansa("run", "resume", "fit")
    ended = federation.until_ended(run_id)
    assert ended.state is RunState.COMPLETED
    assert federation.digest_of(ended) == federation.digest_of(undisturbed)
    # A slow command may find the next round.
    assert "was held before: cancelled" in hansa("run", "show", "fit")

    trusted = ["--hub-key", federation.client.hub().fingerprint]
    for name in NAMES:
        fingerprint = federation.client.site(federation.slug, federation.site_id(name)).fingerprint
        trusted += ["--site-key", f"{name}={fingerprint}"]
    assert "everything was checked, and holds" in hansa("verify", "fit", *trusted)
    listed = hansa("receipt", "list", "fit")
    assert ", try 2" in listed
    assert "paused by" in listed

    hansa("run", "fork", "fit", "--name", "more", "--round", "1", "--set", "rounds=1")
    hansa("run", "evaluate", "line", "--checkpoint", str(first), "--watch")
    runs = {run.name: run for run in federation.client.runs(federation.slug)}
    assert runs["evaluation"].state is RunState.COMPLETED
    more = federation.until_ended(runs["more"].id)
    assert more.parent_run_id == run_id
    assert more.rounds_completed == 1
