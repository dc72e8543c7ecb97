"""The pure kernel that hub, workers and sites share: wire models, codecs, aggregation, signing.

No network, no database, no clock: values in, values out.
"""
