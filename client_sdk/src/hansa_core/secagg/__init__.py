"""Secure aggregation: the sum of the updates, and no single one of them."""
