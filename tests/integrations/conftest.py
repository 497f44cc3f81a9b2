"""The targets of the reports in these tests: the same as in the tests of the worker."""

from tests.worker.conftest import fake_gateway, module_recorder, nowhere, recorder

__all__ = ["fake_gateway", "module_recorder", "nowhere", "recorder"]
