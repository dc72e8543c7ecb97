"""The card of a checkpoint that masked updates made."""

from hansa_core import wire
from hansa_core.cards import card_markdown
from tests.factories import Federation, a_run
from tests.secure_sites import SECURE, SecureSite, whole_round
from tests.tensors import a_delta


def test_a_card_says_that_no_single_update_was_seen(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run = a_run(
        federation,
        cohort={"min_sites": 3},
        deadlines={"round_seconds": 600},
        secure=dict(SECURE),
    )
    small = {
        name: (array * 0.1).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in a_delta(1).items()
    }
    weights = {site.name: 10 + place for place, site in enumerate(sites)}
    whole_round(run.id, sites, lambda site, task: site.work(task, small, weight=weights[site.name]))
    latest = federation.run(run.id).latest_checkpoint_id
    card = wire.ModelCard.model_validate(federation.get(f"/checkpoints/{latest}/card"))
    assert card.secure
    assert card.sites == len(sites)
    assert card.examples == sum(weights.values())  # as the sum says: nobody told his own
    assert card.receipt is not None
    assert "no: sums of masked updates" in card_markdown(card)
