"""`python -m examples.demo`: a hub and four hospitals on this machine, from nothing to a model."""
