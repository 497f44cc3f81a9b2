"""Where the jobs of these tests are reported to: as in tests of the worker itself."""

from tests.worker.conftest import nowhere, peer

__all__ = ["nowhere", "peer"]
