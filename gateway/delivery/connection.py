"""One client: a reader, a keep-alive task and a writer. Only the writer can send and close.

    reader      source → commands; ends when the client disconnects or breaks the protocol
    keep-alive  pings a client that is silent, and ends its connection if it stays silent
    writer      outbox → sink; when the outbox ends, it closes the sink, once

Only the writer has the sink, and closing it is the last thing that it does, after its loop. While
it waits, the fan-out may use its `FrameWriter` (`Outbox.write_until_blocked`). Other tasks can only
request that the connection close (`Outbox.end`), and the first reason wins. So no code can send
after the close. `Node.serve` in `node/node.py` counts and logs the connection.
"""

from __future__ import annotations

import logging

import trio

from ..model.errors import InvalidInput, NodeFull, TransportClosed, Unauthorized
from ..model.limits import Limits
from ..observability.counters import Counters
from ..protocol import close_codes
from ..protocol.close_codes import CloseCode
from ..protocol.commands import command_id, parse_command
from ..protocol.messages import Message, encode
from .frame_writer import FrameWriter
from .outbox import Outbox
from .session import Session
from .transport import ConnectionEnds, Sink, Source

__all__ = ["serve_connection"]

log = logging.getLogger("gateway.delivery")

MAX_IMMEDIATE_COMMAND = 4096
"""Maximum characters of a command that is executed at once. A longer one names many jobs and takes
milliseconds: of all clients' long commands at most one is executed in a pass of Trio's scheduler,
so that all other tasks run in between."""


async def serve_connection(
    source: Source,
    sink: Sink,
    *,
    session: Session,
    limits: Limits,
) -> CloseCode:
    """Runs one client until its connection ends; returns the close code.

    If it is cancelled, or the writer fails, the sink is aborted. The session is always closed.
    """
    outbox = session.outbox
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_commands, source, session)
            nursery.start_soon(keep_alive, source, session, limits)
            await write_frames(outbox, sink, limits=limits, counters=session.counters)
            nursery.cancel_scope.cancel()
    finally:
        session.close()
    return outbox.end(close_codes.INTERNAL)


async def read_commands(source: Source, session: Session) -> None:
    """Executes the client's commands until it disconnects or its input ends the connection."""
    outbox = session.outbox
    try:
        while True:
            text = await source.receive()
            await outbox.wait_for_reply_slot()
            if len(text) > MAX_IMMEDIATE_COMMAND:
                # It is released before the command is handled, because a `hello` may have to wait.
                async with session.long_command_lock:
                    await trio.lowlevel.checkpoint()
            try:
                reply = await session.handle(parse_command(text))
            except InvalidInput as error:
                session.counters.protocol_errors[error.code] += 1
                reply = _error_reply(error, text)
            if reply is not None:
                outbox.reply(reply)
    except TransportClosed:
        outbox.end(close_codes.NORMAL)
    except ConnectionEnds as error:
        outbox.end(error.close_code)
    except Unauthorized as error:
        outbox.end(close_codes.CODE_BY_REFUSAL[error.refusal], detail=str(error))
    except NodeFull as error:
        outbox.end(close_codes.OVERLOADED, detail=str(error))
    except Exception:
        log.exception("unexpected error in the reader of a connection")
        outbox.end(close_codes.INTERNAL)


def _error_reply(error: InvalidInput, text: str) -> Message:
    """Returns the reply to an invalid command, with the command's id if that can be read."""
    id_ = command_id(text)
    fields = {} if id_ is None else {"id": id_}
    return encode("error", code=error.code, message=str(error), **fields)


async def keep_alive(source: Source, session: Session, limits: Limits) -> None:
    """Pings a client that is silent, and ends its connection if it stays silent.

    The transport's own ping comes first, if it has one, because libraries answer it. A JSON `ping`
    follows only if there was no answer, for clients whose library does not.
    """
    outbox = session.outbox
    while True:
        received_at = source.received_at
        last_received = trio.current_time() if received_at is None else received_at
        await trio.sleep_until(last_received + limits.ping_interval)
        if source.received_at != received_at:
            continue
        deadline = trio.current_time() + limits.ping_timeout
        if source.answers_pings:
            outbox.ping()
            await trio.sleep(limits.ping_timeout / 2)
            if source.received_at != received_at:
                continue
        session.ping()
        if received_at is None:
            continue
        await trio.sleep_until(deadline)
        # If this process was suspended, the pong may be in the socket: let the reader run first.
        await trio.lowlevel.checkpoint()
        if source.received_at == received_at:
            outbox.end(close_codes.PING_TIMEOUT)
            return


async def write_frames(outbox: Outbox, sink: Sink, *, limits: Limits, counters: Counters) -> None:
    """Writes what the outbox has until it ends; then closes the sink, once.

    If a write misses its deadline, the sink is aborted and no close frame is sent, because half a
    frame may be on the wire.
    """
    writer = FrameWriter(sink, limits=limits, counters=counters)
    try:
        while await outbox.write_until_blocked(writer):  # while this waits, the fan-out may write
            await writer.finish()  # now it may not
        await sink.close((outbox.close_code or close_codes.NORMAL).with_detail(outbox.close_detail))
    except TransportClosed:
        outbox.end(close_codes.NORMAL)
        sink.abort()
    except trio.TooSlowError:
        outbox.end(close_codes.WRITE_TIMEOUT)
        sink.abort()
    except BaseException:
        sink.abort()
        raise
