"""Tests of the command line with real processes, on loopback and free ports.

To wait, read the expected line with a deadline. Never sleep.
"""
