"""Fault tests with real processes: two nodes on one Redis, several workers, two dozen clients.

Each test is a scenario of a few lines: which fault happens, and when it is over. Everything
that a client received is recorded in its log (`client_logs`). At the end all logs are checked
against the rules (`rules`), which are pure and have tests of their own. No test sleeps to wait
for something; a test sleeps only where the fault itself is a duration.

`python -m tests.faults.repeat 10` runs the tests ten times in a row and prints a table.
"""
