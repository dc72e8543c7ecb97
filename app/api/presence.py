"""By which clock, and for how long, a route counts a site as online."""

from datetime import timedelta
from typing import Annotated

from fastapi import Depends

from app.api.resources import Now, SettingsDep
from app.services.sites import Presence


async def _presence(settings: SettingsDep, now: Now) -> Presence:
    return Presence(now, timedelta(seconds=settings.site_online_seconds))


PresenceDep = Annotated[Presence, Depends(_presence)]
