"""One client: a reader, a heartbeat, a writer. The connection is its writer.

    reader     source → commands     ends: client gone, protocol error
    heartbeat  a deadline that everything heard moves forward; asks for a ping when it nears
    writer     outbox → sink; when the outbox ends, close(code), once

Only the writer ever sees the sink, and closing is the last thing it does, after its loop
has ended. Everyone else may only end the outbox with a reason, and the first reason wins.
So "send after close" cannot be written down.

A transport is two separate objects, so that what a task cannot name it cannot misuse.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import trio

from . import endings
from .auth.gate import Pass
from .endings import Ending
from .errors import InvalidInput, NodeFull, TransportClosed, Unauthorized
from .limits import Limits
from .outbox import Batch, Outbox
from .protocol import Message, encode, parse_command
from .session import Session
from .tally import Tally

__all__ = ["WRITE_SIZE", "ConnectionEnds", "Sink", "Source", "serve_connection", "write_frames"]

log = logging.getLogger("gateway.connection")

WRITE_SIZE = 256 * 1024
"""Bytes per write, about: each write has the deadline, so it must be one a slow but live
client can take (10 s: 26 KB/s)."""

_PING = encode("ping")


class Source(Protocol):
    """Where a client is heard."""

    @property
    def heard_at(self) -> float | None:
        """When bytes last arrived from the client, on Trio's clock; None if none ever can
        (a one-way transport), so that silence means nothing."""
        ...

    async def receive(self) -> str:
        """The next message.

        Raises `TransportClosed` when the client is gone, `ConnectionEnds` if what it sent
        ends the connection. Cancelled, nothing is lost.
        """
        ...


class Sink(Protocol):
    """Where a client is told. Used by one task alone."""

    def send(self, messages: Sequence[Message]) -> bool:
        """Send them, in order, as far as that takes no waiting; whether that was all.

        If not, `flush` must come next. Raises `TransportClosed` if the client is gone.
        """
        ...

    async def flush(self) -> None:
        """Send the rest. Raises `TransportClosed` if the client is gone.

        Cancelled, half a frame may be on the wire: only `abort` may follow.
        """
        ...

    async def ping(self) -> None:
        """Send the transport's own ping, if it has one. Otherwise like `flush`."""
        ...

    async def close(self, ending: Ending) -> None:
        """Say goodbye, within the transport's own deadline, and release everything."""
        ...

    def abort(self) -> None:
        """Drop the connection without a word. Never blocks."""
        ...


class ConnectionEnds(Exception):
    """What the client sent ends the connection, with this ending."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


async def serve_connection(
    source: Source,
    sink: Sink,
    *,
    session: Session,
    pass_: Pass,
    limits: Limits,
) -> Ending:
    """Run one client until it ends; returns why it ended.

    Cancelled, or if the writer has a defect, the sink is aborted. In every case the
    session is closed.
    """
    outbox = session.outbox
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_commands, source, session, pass_)
            nursery.start_soon(keep_alive, source, outbox, limits)
            await write_frames(outbox, sink, limits=limits, tally=session.tally)
            nursery.cancel_scope.cancel()
    finally:
        session.close()
    return outbox.end(endings.INTERNAL)


async def read_commands(source: Source, session: Session, pass_: Pass) -> None:
    """Do what the client says, until it is gone or says what ends it."""
    outbox = session.outbox
    try:
        while True:
            text = await source.receive()
            await outbox.room()
            try:
                command = parse_command(text)
                token = pass_.token_in(command)
                if token is not None:
                    session.entitle(await pass_.show(token))
                answer = session.handle(command)
            except InvalidInput as error:
                session.tally.violations[error.code] += 1
                answer = encode("error", code=error.code, message=str(error))
            if answer is not None:
                outbox.reply(answer)
    except TransportClosed:
        outbox.end(endings.NORMAL)
    except (ConnectionEnds, Unauthorized) as error:
        outbox.end(error.ending)
    except NodeFull:
        outbox.end(endings.FULL)
    except Exception:
        log.exception("the reader of a connection failed")
        outbox.end(endings.INTERNAL)


async def keep_alive(source: Source, outbox: Outbox, limits: Limits) -> None:
    """Ping a client that is silent, and end it if it stays so."""
    while True:
        heard_at = source.heard_at
        last_word = trio.current_time() if heard_at is None else heard_at
        await trio.sleep_until(last_word + limits.ping_after)
        if source.heard_at != heard_at:
            continue
        outbox.announce(_PING, ping=True)
        if heard_at is None:
            continue
        await trio.sleep(limits.pong_within)
        # If this process was stopped meanwhile the answer lies in the socket: first read it.
        await trio.lowlevel.checkpoint()
        if source.heard_at == heard_at:
            outbox.end(endings.SILENT)
            return


async def write_frames(outbox: Outbox, sink: Sink, *, limits: Limits, tally: Tally) -> None:
    """Send what is due until the outbox ends; then close, once.

    What is due is taken when it can be written: no more of it is held than about
    `WRITE_SIZE`, or one topic's past, and it is as new as can be. A write that outlives its
    deadline is followed by an abort, never by a close frame: half a frame may be on the wire.
    """
    since = time.time()
    try:
        async for batch in outbox:
            if batch.due and tally.timing:
                tally.queued.observe(trio.current_time() - batch.since)
            for messages in _writes(batch):
                if not sink.send(messages):
                    began = trio.current_time()
                    with trio.fail_after(limits.write_timeout):
                        await sink.flush()
                    tally.waited.observe(trio.current_time() - began)
                tally.wrote(messages, since=since)
            if batch.ping:
                with trio.fail_after(limits.write_timeout):
                    await sink.ping()
        await sink.close(outbox.ending or endings.NORMAL)
    except TransportClosed:
        outbox.end(endings.NORMAL)
        sink.abort()
    except trio.TooSlowError:
        outbox.end(endings.STUCK)
        sink.abort()
    except BaseException:
        sink.abort()
        raise


def _writes(batch: Batch) -> Iterator[list[Message]]:
    """The answers, then what is due, in writes of about `WRITE_SIZE`; each is taken when the
    one before is out."""
    messages, size = batch.replies, 0
    if messages:
        size = sum([message.size for message in messages])
        if size > WRITE_SIZE:
            yield from ([message] for message in messages)
            messages, size = [], 0
    for subscription in batch.due:
        message = subscription.take()
        while message is not None:
            if message.size > WRITE_SIZE and len(message.texts) > 1:
                if messages:
                    yield messages
                yield from ([part] for part in message.split(WRITE_SIZE))
                messages, size = [], 0
            else:
                messages.append(message)
                size += message.size
            if size >= WRITE_SIZE:
                yield messages
                messages, size = [], 0
            # What follows a gap is due as well; after all else the cursor is at the newest.
            message = subscription.take() if message.kind == "gap" else None
    if messages:
        yield messages
