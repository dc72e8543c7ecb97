"""The option that names a site's folder."""

from pathlib import Path
from typing import Annotated

import typer

from hansa.identity import STATE_DIR_VARIABLE

StateDirOption = Annotated[
    Path | None,
    typer.Option(help=f"The site's folder. Default: ${STATE_DIR_VARIABLE} or ~/.hansa/site."),
]
