"""Cards as Markdown: everything is said, what people wrote is quoted."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hansa_core import wire
from hansa_core.cards import card_markdown
from hansa_core.plans import RunPlan

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
ID = UUID(int=7)
PLAN = RunPlan.model_validate({"name": "first", "model": "tumor", "rounds": 3})


def a_card(**changes: Any) -> wire.ModelCard:
    checkpoint = wire.Checkpoint(
        id=ID,
        model_id=ID,
        digest="a" * 64,
        size=1_234_567,
        parent_id=None,
        run_id=None,
        round_number=None,
        created_at=AT,
    )
    told: dict[str, Any] = {
        "federation": "nordic",
        "model": "tumor",
        "description": "",
        "checkpoint": checkpoint,
        "parameters": 12_345,
        "tensors": 3,
        "made_by": None,
        "run_id": None,
        "round_number": None,
        "plan": None,
        "sites": 0,
        "examples": None,
        "metrics": [],
        "receipt": None,
        "secure": False,
        "lineage": [],
        "lineage_more": False,
    }
    return wire.ModelCard.model_validate({**told, **changes})


TRAINED = {
    "made_by": "first",
    "run_id": ID,
    "round_number": 2,
    "plan": PLAN,
    "sites": 4,
    "examples": 1500,
    "receipt": "b" * 64,
    "metrics": [
        {"kind": kind, "name": "loss", "value": value, "num_examples": 90, "round_number": 2}
        for kind, value in (("train", 0.5), ("eval", 0.123456789))
    ],
    "lineage": [
        {
            "checkpoint_id": ID,
            "digest": "c" * 64,
            "run_id": None,
            "run_name": None,
            "round_number": None,
            "created_at": AT,
        }
    ],
}


def test_an_uploaded_checkpoint_is_told_in_few_lines() -> None:
    assert card_markdown(a_card()) == "\n".join(
        (
            "# tumor, uploaded",
            "",
            "|  |  |",
            "| --- | --- |",
            "| federation | nordic |",
            "| made at | 2026-03-01 12:30 UTC |",
            f"| SHA-256 | `{'a' * 64}` |",
            "| size | 1,234,567 bytes, safetensors |",
            "| parameters | 12,345 in 3 tensors |",
            "",
        )
    )


def test_a_trained_one_names_its_run_metrics_origin_and_plan() -> None:
    text = card_markdown(a_card(**TRAINED))
    assert text.startswith("# tumor, round 2 of first\n")
    assert f"| run | first (`{ID}`) |" in text
    assert "| sites | 4 contributed up to this round |" in text
    assert "| examples | 1,500 behind the updates of this round |" in text
    assert f"| receipt | `{'b' * 64}` |" in text
    assert "| loss | 0.123457 | 90 |" in text
    assert text.index("## On held-out data") < text.index("## In local training")
    assert f"| uploaded |  | `{'c' * 64}` | 2026-03-01 12:30 UTC |" in text
    assert '"rounds": 3' in text
    assert "deadlines" not in text  # defaults say nothing
    assert "and more" not in text


def test_a_secure_run_and_a_cut_lineage_say_so() -> None:
    text = card_markdown(a_card(**TRAINED, secure=True, lineage_more=True))
    assert "| single updates seen by the hub | no: sums of masked updates" in text
    assert "| and more |  |  |  |" in text
    assert "| single updates seen by the hub | yes |" in card_markdown(a_card(**TRAINED))


def test_what_people_wrote_is_quoted_and_never_interpreted() -> None:
    text = card_markdown(a_card(description="# A title\n\n<script>alert(1)</script> *bold* | x"))
    assert "<script>" not in text
    assert "> \\# A title\n>\n> &lt;script&gt;alert(1)&lt;/script&gt; \\*bold\\* \\| x" in text
