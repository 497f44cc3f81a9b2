"""Faults of a worker. The watchers of other jobs do not notice."""

from __future__ import annotations

from itertools import groupby

from .story import Story, story


def healths(it: Story, job: str) -> set[tuple[tuple[str, int], ...]]:
    """What the clients that get every event have seen of the health of a job's worker, each
    with the number of events in a row."""
    seen = set()
    for watcher in it.watchers:
        if watcher.mode == "every":
            said = [state["health"] for _, state in watcher.account.states(job) if state]
            runs = [(health, len(list(run))) for health, run in groupby(said)]
            seen.add(tuple((health, n if health != "ok" else 1) for health, n in runs))
    return seen


async def test_killed_is_stalled_and_then_lost_once_each() -> None:
    """Whichever node notices, and however many look for it."""
    async with story(cast={"meanwhile": {"lease": 1.0}}) as it:
        async with it.fault():
            it.workers["meanwhile"].kill()
        await it.has_ended("meanwhile")
        await it.goes_on()
        it.expect(
            healths(it, "meanwhile") == {(("ok", 1), ("stalled", 1), ("lost", 1))},
            f"stalled and lost are told once each: {healths(it, 'meanwhile')}",
        )


async def test_two_of_different_attempts_at_once() -> None:
    """The older one goes on, ends, and is not heard; the newer one's end is the end."""
    async with story() as it:
        async with it.fault():
            it.hire("rival", "meanwhile")
            await it.until(
                "every client sees the second attempt",
                lambda: all((w.states["meanwhile"] or {}).get("attempt") == 2 for w in it.watchers),
            )
        it.end("meanwhile", "succeed")
        old = await it.workers["meanwhile"].report(within=10)
        it.expect(old["superseded"], f"the older one knows that it is superseded: {old}")
        it.end("rival", "fail")
        await it.has_ended("rival")
        it.expect(it.ends["meanwhile"]["status"] == "failed", f"the end is: {it.ends}")


async def test_its_clock_is_an_hour_off() -> None:
    """Nothing that is told depends on it: no time, no lease, no estimate."""
    ahead, behind = {"skew": 3_600.0, "lease": 5.0}, {"skew": -3_600.0, "lease": 5.0}
    async with story(cast={"meanwhile": ahead, "late:1": behind}) as it:
        async with it.fault():
            await it.goes_on(job="meanwhile")
            await it.goes_on()
        await it.has_ended("meanwhile")
        told = healths(it, "meanwhile") | healths(it, "late:1")
        it.expect(told == {(("ok", 1),)}, f"nobody is told that they are silent: {told}")
