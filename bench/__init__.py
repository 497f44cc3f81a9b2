"""Measures how fast the gateway is, and the alternatives to it, in one run.

`python -m bench` measures; `bench/README.md` says what, how, and what came out.

    load/         the generator: raw sockets, no parsing; a process and a core of its own
    machine.py    cores, processes, /proc
    servers.py    what is measured: how it is started, how clients talk to it, who feeds it
    peers/        the alternatives: how they are installed, and their programs
    workloads.py  the workloads; delivery.py, publishing.py and starting.py measure them
    harness.py    runs the servers in turn, A B A B
    report.py plot.py
"""
