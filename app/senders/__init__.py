"""How events leave the hub: webhooks and e-mail. Nothing here knows a table.

Every call blocks, is bounded in time, and is never made inside a transaction. Start at outgoing.py.
"""
