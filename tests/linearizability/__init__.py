"""Linearizability of real processes: two nodes on one Redis, publishers and readers over both,
nodes that are killed and a Redis that is killed and restarted in the middle.

`history.py` records the history, and `checker/` (Go, porcupine) checks it against the reducer's
rules: each job alone, and a group together with all jobs below it.
`python -m tests.linearizability --minutes N` runs for longer.
"""
