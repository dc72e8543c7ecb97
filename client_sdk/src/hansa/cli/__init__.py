"""The `hansa` command: one module per noun, assembled in `hansa.cli.main`."""

from hansa.cli.main import main

__all__ = ["main"]
