"""Tests of the worker side.

Rules: no test sleeps to wait; it waits for a condition, and the deadline (`DEADLINE`) only limits
how long a failure takes. The fake gateway is a real HTTP server on a free port of this process, so
sockets, threads and forks are real.
"""
