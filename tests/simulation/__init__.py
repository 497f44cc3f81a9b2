"""A whole installation in one process, on a virtual clock, with seeded faults.

Read `docs/proof.md` first. `python -m tests.simulation --help` runs it.

    __main__    runs seeds, prints and shrinks what fails
    scenario    a seed as values: who takes part, what goes wrong and when
    runs        runs a scenario, and says what came of it
    world       who takes part: nodes, a Redis, workers, clients; the trace
    hosts       a node's process
    faults      what goes wrong
    pace        that streams are up to date while nothing does
    rest        what must hold at the end
    checks      what must hold: of every frame, and at rest
    clients     who watches: WebSocket, SSE, GET, lists, long polls
    sets        who watches sets: WebSocket, SSE, GET
    rights      tokens, and what they allow
    workers     who reports: the real sender over HTTP and Redis, and FCALL
    groups      which groups there are, and what must hold of them after every command
    requests    who asks jobs and groups to be cancelled, paused or resumed
    held_requests  what must hold of that after every command
    group_workers  who reports of a group: who declares it, and who works on its children
    reference   the client's rule of docs/protocol.md, pure
    threads     threads, locks and clocks of the code under test, made deterministic
    sockets     connections to the simulated Redis, and what goes wrong on them
    redis       a Redis with the real Lua, which can lose writes, fail over, refuse
    mutants     classic defects that the checks must find
"""
