"""Where models come from: the card of a checkpoint, the lineage of a model."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response, status

from app.api.dependencies import Access, TransactionsDep
from app.api.problems import problems
from app.domain.errors import ForbiddenError, NotFoundError
from app.domain.permissions import Action
from app.services import cards
from hansa_core import wire
from hansa_core.cards import card_markdown

router = APIRouter(prefix="/v1/federations/{federation}", tags=["models"])

MARKDOWN = "text/markdown; charset=utf-8"


class CardFormat(StrEnum):
    """How a card is written."""

    JSON = "json"
    MARKDOWN = "markdown"


@router.get(
    "/checkpoints/{checkpoint_id}/card",
    response_model=wire.ModelCard,
    responses={
        **problems(NotFoundError, ForbiddenError),
        status.HTTP_200_OK: {
            "description": "The card, as `format` asks for it.",
            "content": {"text/markdown": {"schema": {"type": "string"}}},
        },
    },
)
def get_card(
    checkpoint_id: UUID,
    access: Access,
    transactions: TransactionsDep,
    wanted: Annotated[
        CardFormat, Query(alias="format", description="markdown: for people, to keep beside it")
    ] = CardFormat.JSON,
) -> wire.ModelCard | Response:
    """Return a checkpoint's card: what it is, which run and plan made it, and how good it is."""
    access.require(Action.READ)
    with transactions.begin("get_card") as tx:
        card = cards.card(tx, access, checkpoint_id)
    if wanted is CardFormat.JSON:
        return card
    name = f"{card.model}-{'base' if card.round_number is None else f'round-{card.round_number}'}"
    return Response(
        card_markdown(card),
        media_type=MARKDOWN,
        headers={"Content-Disposition": f'inline; filename="{name}.md"'},
    )


@router.get("/models/{model}/lineage", responses=problems(NotFoundError, ForbiddenError))
def get_lineage(model: str, access: Access, transactions: TransactionsDep) -> wire.Lineage:
    """Return a model's runs and uploaded checkpoints, and which comes from which."""
    access.require(Action.READ)
    with transactions.begin("get_lineage") as tx:
        return cards.lineage(tx, access, model)
