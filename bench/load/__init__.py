"""The load generator: 10,000 clients in one Python process, four million events a second.

It parses nothing. Every state carries a `MARK` followed by the time it was due to be
published, so events are counted with `bytes.count` in the received data, however a server
frames it, and ages are computed from the first and the last mark of each read.
"""
