"""The demo: a gateway, and workers that do real work on this Python installation.

    show       starts the gateway, prints its URL and the final state of each job
    runner     runs one attempt of a job: its process, from start to end
    jobs       the jobs, and how each should end
    worker     the common part of all workers
    installation   the files to work on
    hashing, archiving, parsing, reading, indexing   one program for each job

The workers are ordinary programs: of the gateway they use only `Job`.
"""
