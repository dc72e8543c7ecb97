"""Secure rounds, as docs/secure-aggregation.md has them: what the hub does in each phase.

    setup      keys, then confirmations: a roster in force
    collecting the round's header, then masked updates as tasks
    signing    the committee signs which updates the sum is of
    opening    the committee opens it
    summing    the masks are taken off; what comes after is the aggregation of one mean delta

`duties` is what sites are asked for and what they answer.
"""
