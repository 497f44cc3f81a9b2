"""OpenTelemetry spans of deliveries whose events carry a trace context.

A span's parent is the span that the event's `traceparent` names, so a worker's own trace shows
the delivery of its update. This module uses only the API: the process that runs the gateway
configures where spans are exported. Attributes follow OpenTelemetry's conventions for messaging
where these have one. The module is imported when there are spans to record.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, get_current_span, get_tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..delivery.hub import Delivery

__all__ = ["export_spans"]

_tracer = get_tracer("gateway")
_propagator = TraceContextTextMapPropagator()


def export_spans(deliveries: Iterable[Delivery], *, began: int, ended: int) -> None:
    """Records a span for each delivery whose trace is sampled. Times are Unix nanoseconds."""
    for event, watchers in deliveries:
        parent = _sampled(event.traceparent)
        if parent is None:
            continue
        epoch, seq = event.position
        span = _tracer.start_span(
            "deliver progress",
            parent,
            SpanKind.CONSUMER,
            {
                "messaging.system": "progress_gateway",
                "messaging.operation.name": "deliver",
                "messaging.operation.type": "process",
                "messaging.destination.name": "progress",
                "messaging.message.id": f"{epoch}-{seq}",
                "progress.job": event.job,
                "progress.seq": seq,
                "progress.watchers": watchers,
            },
            start_time=began,
        )
        span.end(ended)


def _sampled(traceparent: str | None) -> Context | None:
    """Returns the context that `traceparent` names; None if its trace is not sampled, or if the
    text is malformed: updates that were written directly to Redis are not checked."""
    context = _propagator.extract({"traceparent": traceparent or ""}, Context())
    span = get_current_span(context).get_span_context()
    return context if span.is_valid and span.trace_flags.sampled else None
