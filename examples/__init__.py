"""Runnable examples with real data, each with its own README."""
