"""Post-processing of sampled showers: optional, fitted, versioned steps that a bundle carries with it.

A step is a frozen record with a ``kind``, a ``version`` and fitted numbers; :func:`steps.apply` works them
off in the user's order. Steps draw no random numbers, and a shower never depends on others of its block.
"""
