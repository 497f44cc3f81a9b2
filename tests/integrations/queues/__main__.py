"""`python -m tests.integrations.queues QUEUE [TASK ARGUMENT...]`: without a task, its worker."""

import sys
from importlib import import_module

queue, *task = sys.argv[1:]
app = import_module(f"tests.integrations.queues.with_{queue}")
if task:
    app.submit(*task)
else:
    app.run()
