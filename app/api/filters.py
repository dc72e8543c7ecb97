"""Query parameters by which several listings are narrowed."""

from typing import Annotated

from fastapi import Query

PartOfName = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",  # no text of the database holds a NUL
        description="a part of the name, in whatever case",
    ),
]
