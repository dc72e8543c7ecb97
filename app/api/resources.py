"""The process's parts and the clock, as arguments of routes; app/main.py puts them in place."""

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from app.domain.clock import utc_now
from app.doorbell import Bell
from app.services.transactions import Transactions
from app.settings import Settings
from app.storage.artifacts import Artifacts


async def _transactions(request: Request) -> Transactions:
    return request.app.state.transactions


async def _bell(request: Request) -> Bell:
    return request.app.state.bell


async def _artifacts(request: Request) -> Artifacts:
    return request.app.state.artifacts


async def _settings(request: Request) -> Settings:
    return request.app.state.settings


async def _now() -> datetime:
    return utc_now()


TransactionsDep = Annotated[Transactions, Depends(_transactions)]
BellDep = Annotated[Bell, Depends(_bell)]
ArtifactsDep = Annotated[Artifacts, Depends(_artifacts)]
SettingsDep = Annotated[Settings, Depends(_settings)]
Now = Annotated[datetime, Depends(_now)]
