"""How fast the gateway is, against what people would use instead, in one run.

`python -m bench` measures; `bench/README.md` says what, how, and what came out.

    load/         the generator: raw sockets, no parsing; a process and a core of its own
    machine.py    cores, processes, /proc
    servers.py    what is measured: how it is started, spoken to and fed
    peers/        everyone else: how they are installed, and their programs
    workloads.py  what each workload does with a server
    harness.py    rounds in turn, A B A B
    report.py plot.py
"""
