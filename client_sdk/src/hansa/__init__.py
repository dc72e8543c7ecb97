"""The Hansa SDK: the site runner and the researcher's client."""

__version__ = "0.1.0"
