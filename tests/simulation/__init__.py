"""A whole installation in one process, on a virtual clock, with seeded faults.

Read `docs/proof.md` first. `python -m tests.simulation --help` runs it.

    __main__    runs seeds, prints and shrinks failures
    scenario    the scenario of a seed as values: participants, faults and their times
    runs        runs a scenario, and returns the outcome
    world       the participants: nodes, a Redis, workers, clients; the trace
    hosts       a node's process
    faults      the faults
    pace        check: streams are up to date while there is no fault
    rest        checks at the end of a run
    checks      checks of every frame and response, and at rest
    clients     clients that watch jobs: WebSocket, SSE, GET, lists, long polls
    sets        clients that watch sets: WebSocket, SSE, GET
    rights      tokens and their permissions
    workers     workers: the real sender over HTTP and Redis, and FCALL
    groups      the groups of a run, and their checks after every command
    requests    clients that send requests to jobs and groups: cancel, pause, resume
    held_requests  checks of requests after every command
    group_workers  workers of groups: one declares the group, others work on its children
    reference   the client's rule of docs/protocol.md, pure
    threads     deterministic threads, locks and clocks for the code under test
    sockets     connections to the simulated Redis, and their faults
    redis       a Redis with the real Lua, which can lose writes, fail over, refuse
    mutants     typical defects that the checks must detect
"""
