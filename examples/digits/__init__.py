"""Handwritten digits among five offices that see different digits: a network with batch norm."""
