"""The process's parts and the clock, as arguments of routes; app/main.py puts them in place."""

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from app.doorbell import Bell
from app.services.audit import Takings
from app.services.deployment import Inspector
from app.services.transactions import Transactions
from app.services.uploads import Desk
from app.settings import Settings
from app.storage.artifacts import Artifacts


async def _transactions(request: Request) -> Transactions:
    return request.app.state.transactions


async def _bell(request: Request) -> Bell:
    return request.app.state.bell


async def _artifacts(request: Request) -> Artifacts:
    return request.app.state.artifacts


async def _desk(request: Request) -> Desk:
    return request.app.state.desk


async def _inspector(request: Request) -> Inspector:
    return request.app.state.inspector


async def _takings(request: Request) -> Takings:
    return request.app.state.takings


async def _settings(request: Request) -> Settings:
    return request.app.state.settings


TransactionsDep = Annotated[Transactions, Depends(_transactions)]


async def _now(request: Request) -> datetime:
    transactions: Transactions = request.app.state.transactions
    if transactions.clock.is_set:
        return transactions.clock.now()
    return await asyncio.to_thread(transactions.now)  # the process's first request


BellDep = Annotated[Bell, Depends(_bell)]
ArtifactsDep = Annotated[Artifacts, Depends(_artifacts)]
DeskDep = Annotated[Desk, Depends(_desk)]
InspectorDep = Annotated[Inspector, Depends(_inspector)]
TakingsDep = Annotated[Takings, Depends(_takings)]
SettingsDep = Annotated[Settings, Depends(_settings)]
Now = Annotated[datetime, Depends(_now)]
