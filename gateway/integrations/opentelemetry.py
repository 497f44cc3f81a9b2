"""The current span of OpenTelemetry, as a `traceparent` for jobs.

    with tracer.start_as_current_span("encode"):
        with Job("video:42", traceparent=current_traceparent) as job:
            ...

Then the trace also has a span for each delivery, recorded by the nodes whose clients watch the job.
"""

from __future__ import annotations

from opentelemetry import trace

__all__ = ["current_traceparent"]


def current_traceparent() -> str | None:
    """Returns the current span (W3C Trace Context §3.2.2). None if there is none, or if it is not
    sampled, because then nodes would record nothing."""
    span = trace.get_current_span().get_span_context()
    if not (span.is_valid and span.trace_flags.sampled):
        return None
    trace_id, span_id = trace.format_trace_id(span.trace_id), trace.format_span_id(span.span_id)
    return f"00-{trace_id}-{span_id}-{span.trace_flags:02x}"
