"""Tuning campaigns: what to try next, written down in a ledger that outlives its driver. Needs no Ray."""
