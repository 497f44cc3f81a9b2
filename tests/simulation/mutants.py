"""Typical defects, one at a time: the simulation must detect each within 1,000 seeds.

    python -m tests.simulation.mutants [--only NAME…] [--minutes 10] [--seeds 1000]
    python -m tests.simulation.mutants --tests [--only NAME…]

Those that the simulation seldom detects name a test that does. `--tests` runs these tests.

Each mutant replaces a text in a copy of the package by another one. The text must occur exactly
once; `test_mutants.py` checks it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

__all__ = ["MUTANTS", "Mutant", "find"]

ROOT = Path(__file__).parents[2]
LUA = "brokers/redis/lua/"


@frozen
class Mutant:
    """A defect."""

    name: str
    file: str
    """The file, relative to `gateway/`."""
    old: str
    new: str
    faults: tuple[str, ...] = ()
    """The kinds of faults that can reveal it, so that fewer seeds are needed; empty: all kinds."""
    test: str = ""
    """A test that detects it, because the simulation seldom does: FILE::NAME, for pytest."""


MUTANTS = (
    # -- the reducer, in Python (memory) and Lua (Redis)
    Mutant("reducer-end-overwritten", "model/reducer.py",
           "    if state.final:\n        return Result(record, \"final\")", "    pass"),
    Mutant("reducer-old-attempt-not-rejected", "model/reducer.py",
           "if update.attempt < state.attempt:", "if update.attempt < 0:", ("memory", "zombie")),
    Mutant("reducer-position-given-twice", "model/reducer.py",
           "Position(record.position.epoch, record.position.seq + 1)",
           "Position(record.position.epoch, record.position.seq + (record.position.seq % 5 > 0))"),
    Mutant("lua-end-overwritten", LUA + "publish.lua",
           "return nil, 'final' end\n  if too_many_parts", "end\n  if too_many_parts"),
    Mutant("lua-old-attempt-not-rejected", LUA + "publish.lua",
           "if given < attempt then return nil, 'stale_attempt' end", ""),
    Mutant("lua-numbers-fall", LUA + "publish.lua",
           "return new ~= old and new - old > 0 and new or old", "return new"),
    Mutant("lua-epoch-reused", LUA + "record.lua",
           "newest_epoch = math.max(newest_epoch + 1, time[1] * 1e6 + time[2])",
           "newest_epoch = math.max(newest_epoch, 1)"),
    Mutant("lua-position-given-twice", LUA + "record.lua",
           "changes.seq = whole(record.seq + 1)", "changes.seq = whole(record.seq - 1 + 1)"),
    Mutant("lua-lease-never-expires", LUA + "expire_leases.lua",
           "if lease_ends and at <= NOW then", "if false then"),
    # -- a Redis that has lost writes
    Mutant("failover-no-generation", LUA + "failover.lua",
           "if may_have_lost then begin_generation() end", "", ("rollback", "failover")),
    Mutant("failover-old-generation-accepted", LUA + "record.lua",
           "return tonumber(record.epoch) < GENERATION", "return false"),
    Mutant("failover-opens-immediately", LUA + "failover.lua",
           "is_open = age >= MIN_RESTORE_TIME and (restored or age >= GRACE)", "is_open = true",
           ("rollback:apart",)),
    Mutant("failover-shows-what-was-written-during-the-repair", LUA + "failover.lua",
           "    generation = next_epoch()\n", "", ("rollback:apart", "groups"),
           test="tests/brokers/redis/test_generations.py::"
           "test_what_a_worker_writes_during_the_repair_is_not_in_the_history"),
    Mutant("failover-prevented-by-a-new-node", LUA + "failover.lua",
           "elseif FOLLOWED ~= '' and FOLLOWED ~= IDENTITY and repaired_server ~= IDENTITY then",
           "elseif false then", ("rollback", "node_kill"),
           test="tests/brokers/redis/test_generations.py::"
           "test_a_new_node_that_is_first_does_not_prevent_the_repair"),
    Mutant("failover-trusts-equal-positions", "brokers/redis/codec.py",
           "return stored == list(numbers) and stored_texts == list(texts)",
           "return stored[:2] == list(numbers)[:2]", ("rollback", "failover"),
           test="tests/brokers/redis/test_generations.py::"
           "test_an_end_is_restored_if_its_position_was_used_again"),
    Mutant("failover-forgets-the-numbers-of-workers", LUA + "restore.lua",
           "shown.run, shown.opened_at, shown.alias = record.run, record.opened_at, record.alias",
           "shown.run = record.run", ("rollback", "failover"),
           test="tests/brokers/redis/test_generations.py::"
           "test_a_worker_whose_number_was_raised_continues_after_another_loss"),
    Mutant("failover-restores-nothing", "brokers/redis/poller.py",
           "await restore(link, self.shard, observed)", "pass", ("rollback", "failover")),
    Mutant("failover-restores-attempts-only", LUA + "restore.lua",
           "ipairs({'attempt', 'status', 'percent', 'done', 'updated_at'})", "ipairs({'attempt'})",
           ("rollback",)),
    Mutant("failover-reads-before-restore", "brokers/redis/poller.py",
           "                        calls.refuse_all(unless=(server, generation))\n",
           "                        calls.refuse_all(unless=calls._allowed)\n",
           ("failover:apart", "reset")),
    Mutant("failover-any-server-answers", "brokers/redis/calls.py",
           "return self._allowed is None or link.server == self._allowed[0]", "return True",
           ("rollback", "failover")),
    Mutant("failover-ignored-while-the-node-waits", "brokers/redis/broker.py",
           "if was_opened and not self._pollers:", "if not self._pollers:",
           ("rollback", "node_kill"),
           test="tests/brokers/redis/test_generations.py::"
           "test_a_broker_whose_feed_could_not_be_opened_refuses_calls"),
    Mutant("restore-takes-older-states", "brokers/redis/observed.py",
           "if previous is not None:\n                self._bytes -= _size(previous)\n"
           "                if previous.position > event.position:\n"
           "                    event = previous",
           "if previous is not None:\n                self._bytes -= _size(previous)\n"
           "                event = previous", ("rollback", "link:some_slow"),
           test="tests/brokers/redis/test_observed.py::test_the_newest_event_is_kept_in_any_order"),
    # -- following the feed
    Mutant("feed-gap-not-detected", "brokers/redis/cursor.py",
           "if self.number != expected:", "if False:", ("trim:slow",)),
    Mutant("feed-trimmed-taken-as-empty", "brokers/redis/cursor.py",
           "        if self.entry_id < self.feed.last:\n            self.skip_to_end(self.feed)\n"
           "            return \"entries were trimmed before they were read\"\n", "",
           ("trim:slow",)),
    Mutant("feed-waits-in-the-future", "brokers/redis/cursor.py",
           "if feed.last < self.entry_id:", "if False:", ("trim:deleted",)),
    Mutant("feed-entry-ends-the-node", "brokers/redis/cursor.py",
           "except (ValueError, TypeError, IndexError) as error:",
           "except ZeroDivisionError as error:", ("garbage",)),
    Mutant("feed-read-before-delivered", "brokers/redis/poller.py",
           "            if events:\n                self._record_observed(events)\n"
           "                await self._deliver(send, events)",
           "            if events and self._random.random() < 0.9:\n"
           "                self._record_observed(events)\n"
           "                await self._deliver(send, events)"),
    Mutant("feed-poller-ends-silently", "brokers/redis/poller.py",
           "                        self._report_unavailable(error)\n",
           "                        return\n"),
    # -- topics and cursors
    Mutant("topic-takes-older-events", "delivery/topic.py",
           "if position <= head:", "if position == head:", ("link:some_slow",)),
    Mutant("topic-replay-with-gaps", "delivery/topic.py",
           "if position.seq != head.seq + 1 or position.epoch != head.epoch:",
           "if position.epoch != head.epoch:", ("trim:slow",)),
    Mutant("topic-snapshot-not-merged-by-position", "delivery/topic.py",
           "        if snapshot is not None:\n            self.append(snapshot)",
           "        if snapshot is not None:\n            self.position = UNSEEN\n"
           "            self.append(snapshot)", ("link:some_slow",),
           test="tests/delivery/test_topic.py::test_snapshot_and_feed_are_merged_in_any_order"),
    Mutant("topic-off-by-one", "delivery/topic.py",
           "return steps(job, head, self._replay[-missing:], event=self.latest)",
           "return steps(job, head, self._replay[-missing - 1 :], event=self.latest)"),
    Mutant("topic-old-messages-shared", "delivery/topic.py",
           "        if self._messages:\n            self._clear_messages()\n        return True",
           "        return True"),
    Mutant("topic-messages-shared-by-all-cursors", "delivery/topic.py",
           "message = self._messages.get((cursor, mode))",
           "message = next(iter(self._messages.values()), None)"),
    Mutant("cursor-advanced-before-delivery", "delivery/topic.py",
           "        if message is not None:\n            self.cursor = None if",
           "        if message is None:\n            self.cursor = self.topic.position\n"
           "        else:\n            self.cursor = None if"),
    Mutant("cursor-not-advanced", "delivery/topic.py",
           "self.cursor = None if message.kind == \"gap\" else self.topic.position",
           "self.cursor = self.cursor or self.topic.position"),
    Mutant("client-gets-older-state-of-a-slower-node", "delivery/topic.py",
           "return self.cursor is not None and self.cursor < topic.position", "return True"),
    Mutant("resumed-stream-not-read-again", "delivery/hub.py",
           "may_be_ahead = resumed", "may_be_ahead = False"),
    Mutant("forgotten-end-becomes-null", "delivery/topic.py",
           "self.position == requested_at and not self.latest.state.final:",
           "self.position == requested_at:"),
    Mutant("step-with-a-wrong-prev", "delivery/topic.py",
           "return step(job, head, self._replay[-1], prev=start.seq, event=self.latest)",
           "return step(job, head, self._replay[-1], prev=head.seq - 1, event=self.latest)"),
    # -- the hub
    Mutant("hub-the-end-is-throttled", "delivery/hub.py",
           "in changed.values():\n            self.topic_changed(topic)\n",
           "in changed.values():\n"
           "            if topic.latest is None or not topic.latest.state.final:\n"
           "                self.topic_changed(topic)\n"),
    Mutant("hub-snapshot-notifies-nobody", "delivery/repairs.py",
           "                    topic.assume_no_client_is_ahead()\n"
           "                hub.topic_changed(topic)",
           "                    topic.assume_no_client_is_ahead()"),
    Mutant("hub-failed-load-not-repeated", "delivery/repairs.py",
           "            if job in self._hub.topics:\n                self._hub.to_load.add(job)",
           "            pass"),
    Mutant("hub-difference-not-reloaded", "delivery/repairs.py",
           "            else:\n                self._hub.to_load.add(job)", "            else:\n"
           "                pass"),
    Mutant("hub-topics-never-evicted", "delivery/hub.py",
           "if topic.idle_since is None or topic.idle_since > before:", "if True:"),
    Mutant("hub-subscriptions-leak", "delivery/hub.py",
           "        topic.subscriptions.discard(subscription)\n", ""),
    Mutant("hub-last-watcher-counts-for-all", "delivery/hub.py",
           "        if topic.subscriptions:\n            if topic.quota_key is subscription",
           "        if False:\n            if topic.quota_key is subscription"),
    # -- sessions and outboxes
    Mutant("session-position-used-twice", "delivery/session.py",
           "position = self._positions.pop(job, None)",
           "position = self._positions.get(job)"),
    Mutant("session-old-subscription-continues", "delivery/session.py",
           "        subscription.cancelled = True\n        self.outbox.cancel(subscription)\n"
           "        self._denied_jobs.discard(job)\n        self._hub.unsubscribe(subscription)\n",
           "        self._denied_jobs.discard(job)\n"),
    Mutant("session-leaks-at-the-end", "delivery/session.py",
           "        for job in list(self._subscriptions):\n            self._unsubscribe(job)\n",
           "        pass\n"),
    Mutant("outbox-notification-lost-while-rate-limited", "delivery/outbox.py",
           "        if subscription in pending or self.close_code is not None:\n",
           "        if subscription in pending or self.close_code is not None "
           "or self._resume_tick is not None:\n"),
    # -- the node
    Mutant("reconciler-loads-once", "node/reconcile.py",
           "            self._repairs.retry_loads(requested)\n", "            pass\n"),
    Mutant("reconciler-never-compares", "node/reconcile.py",
           "            nursery.start_soon(self._check)\n", ""),
    Mutant("reconciler-never-expires-leases", "node/reconcile.py",
           "            nursery.start_soon(self._expire)\n", ""),
    Mutant("node-is-never-stale", "node/node.py",
           "reason = self._waiting_for_broker or self.broker.unavailable_reason",
           "reason = self._waiting_for_broker", ("link",)),
    Mutant("node-does-not-announce-stale", "node/node.py",
           "self.connections.announce(encode(\"feed\"", "str(encode(\"feed\""),
    # -- workers
    Mutant("worker-final-state-closed-without-a-response", "worker/report.py",
           "            self.final_state_may_have_arrived = True\n",
           "            self.final_state_may_have_arrived = True\n"
           "            self.close(Closing.DELIVERED)\n"),
    # -- other kinds, found by hand
    Mutant("reducer-percent-falls", "model/reducer.py",
           "return max(percent or 0, _normalise(two_digits(update.percent)))",
           "return _normalise(two_digits(update.percent))", ("memory",)),
    Mutant("reducer-an-end-is-stalled", "model/reducer.py",
           "if not has_lease(state):\n        return None\n    health",
           "if state.health == \"lost\":\n        return None\n    health", ("memory",)),
    Mutant("lua-repeated-start-opens-another-attempt", LUA + "publish.lua",
           "if update.start and (not update.run or update.run ~= record.run) then",
           "if update.start then"),
    Mutant("restore-overwrites-a-newer-run", LUA + "restore.lua",
           "elseif record and is_newer_run(record, shown) then", "elseif false then",
           ("rollback",)),
    Mutant("reissue-omitted", "brokers/redis/records.py",
           "        if outdated:\n", "        if False:\n", ("rollback",)),
    Mutant("calls-return-results-from-before-the-failover", "brokers/redis/calls.py",
           "if allowed is not None and self._allowed != allowed:", "if False:",
           ("failover", "link")),
    Mutant("feed-of-an-earlier-generation", "brokers/redis/cursor.py",
           "if epoch >= self.feed.generation:", "if True:", ("rollback", "failover")),
    Mutant("feed-continues-after-a-failover", "brokers/redis/cursor.py",
           "if feed.server != previous.server or feed.generation != previous.generation:",
           "if False:", ("rollback", "failover")),
    Mutant("topic-unknown-removes-newer-events", "delivery/topic.py",
           "elif self.latest and self.position == requested_at and not self.latest.state.final:",
           "elif self.latest and not self.latest.state.final:", ("link:some_slow",)),
    Mutant("topic-epochs-not-compared", "delivery/topic.py",
           "if cursor is not None and (cursor.epoch != head.epoch or cursor.seq > head.seq):",
           "if cursor is not None and cursor.seq > head.seq:", ("rollback",)),
    Mutant("hub-newer-client-waits-for-ever", "delivery/repairs.py",
           "topic.assume_no_client_is_ahead()", "pass", ("flush", "evict")),
    Mutant("reconciler-loss-ignored", "node/reconcile.py",
           "the feed may have lost events.\"\"\"\n        self._compare_all.set()",
           "the feed may have lost events.\"\"\"", ("trim",)),
    Mutant("session-sync-removes-nothing", "delivery/session.py",
           "remove = [job for job in self._subscriptions if job not in keep]", "remove = []"),
    Mutant("outbox-rate-limit-never-ends", "delivery/outbox.py",
           "        self._resume_tick = None\n        if self._pending:\n"
           "            self._pending_since = max",
           "        self._resume_tick = None\n        if False:\n"
           "            self._pending_since = max"),
    Mutant("outbox-stays-queued", "delivery/outbox.py",
           "        self._queued = False\n        writer = self._direct_writer\n"
           "        if writer is None:\n            return 0\n",
           "        writer = self._direct_writer\n        if writer is None:\n"
           "            return 0\n        self._queued = False\n"),
    Mutant("fan-out-unfinished-write-dropped", "delivery/outbox.py",
           "                return messages\n            self._unfinished = True\n",
           "                return messages\n", ("stall",)),
    Mutant("fan-out-one-connection-per-turn", "delivery/fan_out.py",
           "            messages += connection.write()\n",
           "            messages += connection.write()\n            break\n"),
    # -- requests
    Mutant("request-survives-its-attempt", LUA + "publish.lua",
           "cleared.run, cleared.opened_at = update.run, update.start and at or nil\n",
           "cleared.run, cleared.opened_at = update.run, update.start and at or nil\n"
           "  for _, name in ipairs({'request', 'request_id', 'request_verb', 'request_is'}) do\n"
           "    cleared[name] = record[name]\n  end\n", ("requests",)),
    Mutant("request-of-another-attempt", LUA + "publish.lua",
           "if update.attempt and tonumber(update.attempt) ~= tonumber(record.attempt) then",
           "if false then"),
    Mutant("request-after-the-end", LUA + "publish.lua",
           "return nil, 'final' end\n  if not accepts_verb", "end\n  if not accepts_verb"),
    Mutant("request-in-place-of-a-cancel", LUA + "groups.lua",
           "\n    or (record.request_verb == 'cancel' and record.request_is ~= 'refused')", ""),
    Mutant("request-not-received", "worker/report.py",
           "            self._receive_request(update, parse_request(result.request))\n", "",
           ("requests",)),
    Mutant("request-delivered-twice", LUA + "groups.lua",
           "(record.request_ids or '') .. ' ', ' ' .. id", "'', ' ' .. id", ("requests", "link"),
           test="tests/contract/test_broker.py::test_an_earlier_request_that_is_sent_again_does_not_return"),
    Mutant("group-request-not-passed-on", "http/control.py",
           "        await _send_to_children(node, job, request, permissions=permissions)\n",
           "        pass\n", ("groups", "requests"),
           test="tests/e2e/test_http_client.py::test_a_request_to_a_group_goes_to_its_running_children_and_theirs"),
    Mutant("group-request-not-inherited", LUA + "publish.lua",
           "  if not update.request then send_inherited_request(JOB, record) end\n", "",
           ("groups", "requests")),
    Mutant("group-request-late-again-after-a-refusal", LUA + "groups.lua",
           " and stage ~= 'refused' and not alone", " and not alone", ("groups", "requests"),
           test="tests/vectors/test_vectors.py::test_lua_groups_match_the_vectors"),
    Mutant("group-request-replaces-a-newer-one", LUA + "groups.lua",
           "      and accepts_verb(record, verb) and stored_at(request) > own_at\n",
           "      and accepts_verb(record, verb)\n", ("groups", "requests", "node_kill"),
           test="tests/vectors/test_vectors.py::test_lua_groups_match_the_vectors"),
    # -- groups
    Mutant("group-child-counted-twice", LUA + "groups.lua",
           "  if old then add(sums, old, -1) end\n", "", ("groups",)),
    Mutant("group-percent-falls", LUA + "groups.lua",
           "if not percent or mean - percent > 0 then percent = mean end", "percent = mean",
           ("groups",)),
    Mutant("group-ends-while-a-child-runs", LUA + "groups.lua",
           "and sums[8] >= expected_weight and sums[1] + sums[2] == 0 then",
           "and sums[8] >= expected_weight then",
           ("groups",)),
    Mutant("group-reopened-by-an-update-of-a-child", LUA + "groups.lua",
           "and string.match(old, '^%d+') ~= string.match(new, '^%d+')", "and old ~= new",
           ("groups",)),
    Mutant("group-never-reopened", LUA + "groups.lua",
           "local reopens = final and old and new\n", "local reopens = false and old and new\n",
           ("groups",)),
    Mutant("group-drops-early-children", LUA + "publish.lua",
           "parse_sums(state.sums) or total_of(JOB)",
           "parse_sums(state.sums) or parse_sums(NO_SUMS)",
           ("groups",)),
    Mutant("group-start-counts-ended-children", LUA + "publish.lua",
           "sums, ended_children = total_of(JOB, true)", "sums = total_of(JOB)", ("groups",)),
    Mutant("group-in-a-group-not-counted", LUA + "groups.lua",
           "for _ = 1, MAX_GROUP_LEVELS do\n    local group, fields, old, new = store_contribution",
           "for _ = 1, 1 do\n    local group, fields, old, new = store_contribution", ("groups",)),
    Mutant("group-not-recounted-after-a-loss", LUA + "restore.lua",
           "for _, group in ipairs(groups) do recount(group) end", "",
           ("groups", "rollback", "failover")),
    Mutant("group-recounted-from-old-sums", LUA + "restore.lua",
           "  redis.call('HSET', PREFIX .. 'last:' .. group, 'sums', "
           "format_sums((total_of(group))))\n", "", ("groups", "rollback", "failover"),
           test="tests/brokers/redis/test_generations.py::"
           "test_a_group_in_a_restored_group_may_end_when_its_children_are_counted_again"),
    Mutant("group-in-memory-ended-weight-not-counted", "model/children.py",
           "\"ended\": sums.ended + sign * each.weight * each.ended,", "\"ended\": sums.ended,",
           ("groups", "memory")),
    # -- sets
    Mutant("set-in-the-order-of-updates", "delivery/job_set.py",
           "return -(state.started_at or state.created_at), job",
           "return -state.updated_at, job", ("sets",)),
    Mutant("set-takes-older-events", "delivery/job_set.py",
           "if event.position <= member.position:", "if False:", ("sets", "link:some_slow"),
           test="tests/delivery/test_set_registry.py::test_an_older_event_does_not_change_a_set"),
    Mutant("set-job-not-sent-again", "delivery/session.py",
           "            subscription.restart()\n            return True", "            return True",
           ("sets",),
           test="tests/delivery/test_sets.py::"
           "test_a_client_that_ignored_messages_after_it_unsubscribed_has_the_state_again"),
    Mutant("set-shared-job-not-sent-again", "delivery/set_subscription.py",
           "self._holder.release_for_client(job)", "self._holder.release(job)", ("sets",),
           test="tests/delivery/test_sets.py::"
           "test_a_client_that_ignored_messages_after_it_left_a_set_has_the_state_again"),
    Mutant("set-keeps-dropped-jobs", "delivery/job_set.py",
           "if member.last_scan_seen < self._scan:", "if False:", ("sets", "flush", "evict")),
    Mutant("set-end-of-a-displaced-job-not-sent", "delivery/set_subscription.py",
           "                self._remember_displaced(job)\n", "", ("sets",)),
    Mutant("set-job-left-before-its-end", "delivery/set_subscription.py",
           "self._holder.release_after_final_state(job)", "self._holder.release(job)",
           ("sets", "stall")),
    Mutant("set-not-scanned-after-a-loss", "node/node.py",
           "                        self.sets.scan_all()\n", "", ("sets", "trim:slow")),
    Mutant("set-without-permission", "delivery/session_sets.py",
           "            not self._auth.permissions.watch.covers(prefix),\n", "            False,\n",
           ("sets",)),
    Mutant("set-keeps-old-permissions", "delivery/session_sets.py",
           "if watch.denied == self._auth.permissions.watch.covers(watch.prefix)", "if False",
           ("sets",)),
    # -- the client's rule, as `gateway watch` has it
    Mutant("client-takes-overlaps", "cli/watch/job_states.py",
           "and position == (frame.epoch, frame.prev)", "and position[0] == frame.epoch"),
    Mutant("client-keeps-its-position-on-a-snapshot", "cli/watch/job_states.py",
           "        if frame.snapshot or continues_position:", "        if continues_position:"),
)  # fmt: skip


@contextmanager
def mutated(mutant: Mutant) -> Iterator[Path]:
    """Yields a folder with a copy of the package that has the mutant, and with what belongs to
    it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("gateway", "tests"):
            shutil.copytree(ROOT / name, root / name)
        for name in ("vectors", "web", "docs", "pyproject.toml"):
            (root / name).symlink_to(ROOT / name)
        path = root / "gateway" / mutant.file
        text = path.read_text("utf-8")
        if text.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: its text occurs {text.count(mutant.old)} times")
        path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
        yield root


def find(mutant: Mutant, *, seeds: int, minutes: float) -> tuple[int | None, str, float]:
    """Runs seeds until one detects the mutant. Returns the seed, its message, and the seconds it
    took."""
    with mutated(mutant) as root:
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.simulation", "--start", "1", "--no-shrink"]
        command += ["--seeds", str(seeds), "--minutes", str(minutes), "--only", *mutant.faults]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        seconds_taken = time.monotonic() - began
    match = re.search(r"^seed (\d+): (.*)$", result.stdout, re.MULTILINE)
    if match:
        return int(match[1]), match[2], seconds_taken
    if result.returncode:
        return None, result.stderr[-300:], seconds_taken
    return None, "not found", seconds_taken


def is_detected_by_its_test(mutant: Mutant) -> bool:
    """Returns whether the test that the mutant names fails with it."""
    with mutated(mutant) as root:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        result = subprocess.run(
            [*command, mutant.test], cwd=root, capture_output=True, text=True, check=False
        )
    return result.returncode == 1 and " failed" in result.stdout


def run_tests(mutants: Iterable[Mutant]) -> int:
    """Runs the tests that the mutants name. Prints a table; returns how many detect nothing."""
    undetected = 0
    print("| defect | test | detected |\n|---|---|---|", flush=True)
    for mutant in mutants:
        detected = is_detected_by_its_test(mutant)
        undetected += not detected
        print(f"| {mutant.name} | {mutant.test} | {'yes' if detected else 'no'} |", flush=True)
    return undetected


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--only", nargs="*", default=[], help="names, or parts of names")
    parser.add_argument("--seeds", type=int, default=1000, help="at most, for each")
    parser.add_argument("--minutes", type=float, default=10, help="at most, for each")
    parser.add_argument("--tests", action="store_true", help="run the tests that mutants name")
    options = parser.parse_args(arguments)
    if options.tests:
        chosen = [m for m in MUTANTS if m.test and _is_chosen(m, options.only)]
        return 1 if run_tests(chosen) else 0
    undetected_count = 0
    print("| defect | seed | seconds | violation |\n|---|---|---|---|", flush=True)
    for mutant in MUTANTS:
        if not _is_chosen(mutant, options.only):
            continue
        try:
            seed, violation, seconds_taken = find(
                mutant, seeds=options.seeds, minutes=options.minutes
            )
        except ValueError as error:
            seed, violation, seconds_taken = None, str(error), 0.0
        undetected_count += seed is None
        short = (
            violation.partition(": ")[0]
            if seed is not None
            else violation.replace("\n", " ")[-200:]
        )
        print(f"| {mutant.name} | {seed or '-'} | {seconds_taken:.0f} | {short} |", flush=True)
    return 1 if undetected_count else 0


def _is_chosen(mutant: Mutant, parts: Sequence[str]) -> bool:
    return not parts or any(part in mutant.name for part in parts)


if __name__ == "__main__":
    sys.exit(main())
