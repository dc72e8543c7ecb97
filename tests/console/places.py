"""Every page of the console, by name, with what it shows on the stage."""

from collections.abc import Mapping

from tests.console import heart, large
from tests.console.stage import EMPTY, Stage

HEART = f"f/{heart.SLUG}"

# Paths below the console; what is in braces is filled in by `path_of`.
PLACES: Mapping[str, str] = {
    "sign-in": "sign-in",
    "federations": "",
    "deployment": "deployment",
    "people": "people",
    "tokens": "tokens",
    "hub-audit": "audit",
    "federation": HEART,
    "settings": f"{HEART}/settings",
    "members": f"{HEART}/members",
    "sites": f"{HEART}/sites",
    "enrol": f"{HEART}/sites/enrol",
    "site": f"{HEART}/sites/{{site}}",
    "runs": f"{HEART}/runs",
    "new-run": f"{HEART}/runs/new",
    "run": f"{HEART}/runs/{{longitudinal}}",
    "run-completed": f"{HEART}/runs/{{baseline}}",
    "round": f"{HEART}/runs/{{baseline}}?round={{round}}",
    "run-failed": f"{HEART}/runs/{{complete-cases}}",
    "run-secure": f"{HEART}/runs/{{masked}}",
    "fork": f"{HEART}/runs/{{baseline}}/fork?round={{round}}",
    "compare": f"{HEART}/runs/compare?run={{baseline}}&run={{gentle-steps}}",
    "receipts": f"{HEART}/runs/{{baseline}}/receipts",
    "models": f"{HEART}/models",
    "model": f"{HEART}/models/{heart.MODEL}",
    "checkpoint": f"{HEART}/models/{heart.MODEL}/checkpoints/{{checkpoint}}",
    "alerts": f"{HEART}/alerts",
    "channels": f"{HEART}/channels",
    "audit": f"{HEART}/audit",
    "large-sites": f"f/{large.SLUG}/sites",
    "large-run": f"f/{large.SLUG}/runs/{{large}}",
    "empty-federation": f"f/{EMPTY}",
    "empty-sites": f"f/{EMPTY}/sites",
    "empty-runs": f"f/{EMPTY}/runs",
    "empty-models": f"f/{EMPTY}/models",
    "empty-alerts": f"f/{EMPTY}/alerts",
    "empty-channels": f"f/{EMPTY}/channels",
}


def path_of(stage: Stage, name: str) -> str:
    """Return the path of a page on this stage."""
    baseline = stage.heart.client.run(heart.SLUG, stage.heart.runs["baseline"])
    return PLACES[name].format_map(
        {
            **stage.heart.runs,
            "large": stage.registry.run_id,
            "site": stage.heart.federation.site_id("switzerland"),
            "round": baseline.rounds_completed // 2,
            "checkpoint": baseline.latest_checkpoint_id,
        }
    )
