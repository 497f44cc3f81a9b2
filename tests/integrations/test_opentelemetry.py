"""The current span as a `traceparent`; `tests/e2e/test_traces.py` tests the resulting spans."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from gateway.integrations.opentelemetry import current_traceparent
from tests.docs.test_readme import run
from tests.spans import session_spans
from tests.traceparents import OTHER, SPAN
from tests.worker.fake_gateway import FakeGateway

TASK = """
from celery import Celery

from gateway.integrations.celery import report_tasks

app = Celery(broker="memory://")
try:
    report_tasks(app, traceparent="none")
except ValueError:
    report_tasks(app, traceparent=lambda: %r)


@app.task(job="traced")
def traced():
    pass


traced.delay()
traced.apply()
"""


def within(trace_id: str, span_id: str, flags: int) -> str | None:
    context = SpanContext(
        int(trace_id, 16), int(span_id, 16), False, TraceFlags(flags), TraceState([("a", "b")])
    )
    with trace.use_span(NonRecordingSpan(context)):
        return current_traceparent()


def test_the_traceparent_is_formatted_as_in_w3c() -> None:
    for span in (SPAN, OTHER):
        _, trace_id, span_id, flags = span.split("-")
        assert within(trace_id, span_id, int(flags, 16)) == span
    assert within("ab", "c", 1) == f"00-{'ab':0>32}-{'c':0>16}-01"


def test_without_a_sampled_span_there_is_no_traceparent() -> None:
    assert current_traceparent() is None
    assert within("1", "1", 0) is None
    assert within("1", "1", 2) is None
    assert within("0", "1", 1) is None


def test_a_span_of_the_sdk_is_used() -> None:
    session_spans()
    with trace.get_tracer("tests").start_as_current_span("encode") as span:
        context = span.get_span_context()
        sampled = f"00-{context.trace_id:032x}-{context.span_id:016x}-0"
        assert current_traceparent() in (
            sampled + "1",
            sampled + "3",
        )  # flag 2: the trace id is random
    assert current_traceparent() is None


def test_the_span_of_a_celery_task_is_used(fake_gateway: FakeGateway) -> None:
    run(TASK % SPAN, warnings="default")
    assert {request.fields["status"] for request in fake_gateway.received} >= {
        "queued",
        "succeeded",
    }
    assert {request.fields.get("traceparent") for request in fake_gateway.received} == {SPAN}
