"""Tests of the worker side.

Rules: nothing sleeps to wait for something; whoever waits, waits for a condition, and its
deadline (`DEADLINE`) only bounds how long a failure takes. The peer is a true HTTP server
on a free port of this process, so that sockets, threads and forks are real.
"""
