"""Adapters that report the progress of other libraries: tqdm, Celery, logging and others.

Each module is for one library, and imports only that library, `gateway.worker`, and the ids and
constants of `gateway.model`.
"""
