"""Faults, with real processes: two nodes on one Redis, several workers, two dozen clients.

Each test is a story of a few lines: what is at work, what goes wrong, when that is over.
What every client saw is an account (`accounts`), and at the end all accounts are held
against the rules (`rules`), which are pure and tested themselves. Nothing sleeps to wait
for something; only where the fault is a duration does time simply pass.

`python -m tests.faults.repeat 10` runs them ten times in a row and prints a table.
"""
