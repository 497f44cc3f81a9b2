"""Linearizability of real processes: two nodes on one Redis, publishers and readers over both,
nodes that are killed and a Redis that is killed and restarted in the middle.

`history.py` makes the history and `checker/` (Go, porcupine) checks it against the fold, job by
job, and a group together with all below it. `python -m tests.linearizability --minutes N` does so
for longer.
"""
