"""The demo: a gateway, and workers that do real work on this Python installation.

    show       starts the gateway, says where, tells how each job goes
    runner     one attempt at a job: its process, from start to end
    jobs       which jobs there are and how each should end
    worker     what all workers share
    installation   what there is to work on
    hashing, archiving, parsing, reading, indexing   the work: a program each

The workers are programs as anyone's would be: they know `gateway.Job` and nothing else.
"""
