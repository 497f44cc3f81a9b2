"""What OpenTelemetry is told of deliveries: a span of each that a trace follows.

It is the child of the span that the event's `traceparent` names, so a worker's own trace
shows what became of its word. Only the API is used here: where spans go, and whether there is
anywhere to go, is for whoever starts the process. Attributes are those of OpenTelemetry's
conventions for messaging, where these have one. Imported when there is something to tell.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, get_current_span, get_tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .hub import Delivery

__all__ = ["tell"]

_tracer = get_tracer("gateway")
_propagator = TraceContextTextMapPropagator()


def tell(deliveries: Iterable[Delivery], *, began: int, ended: int) -> None:
    """Make the span of each delivery whose trace is sampled. Times are Unix nanoseconds."""
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
    """The context that `traceparent` names; None if its trace is not sampled, or if it is
    malformed, which nobody has checked who writes to a Redis."""
    context = _propagator.extract({"traceparent": traceparent or ""}, Context())
    span = get_current_span(context).get_span_context()
    return context if span.is_valid and span.trace_flags.sampled else None
