"""The command line, tried as its users do: real processes, on loopback and free ports.

The rule for waiting: read the line that is waited for, within a deadline. Never sleep.
"""
