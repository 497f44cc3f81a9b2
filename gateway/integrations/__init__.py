"""Workers that report by what they have already: tqdm, Celery, logging.

Each module is for one library, imports it and `gateway.worker`, and nothing else.
"""
