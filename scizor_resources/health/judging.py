"""What is to be said of the facts: one check for each thing, with a sentence that says what to do.

Pure: everything here is a statement about facts that were read before.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta

from scizor_resources.health.report import GROUPS, NOT_RUNNING, Check, Facts, State
from scizor_resources.health.spans import bytes_of, span

#: Dagster's daemon says every 30 seconds that it lives.
HEARTBEAT_LATE = timedelta(minutes=2)
#: One of its threads may be busy for a while.
THREAD_LATE = timedelta(minutes=10)
#: A live run that has not begun after this long has nobody to do it.
LIVE_WAIT = timedelta(minutes=5)
_NAMED = 3

_TITLES = {"postgresql": "PostgreSQL", "valkey": "Valkey"}
_LOGS = {"postgresql": "postgres.log", "valkey": "valkey.log"}
_VARIABLES = {"postgresql": "SCIZOR_DATABASE_URL", "valkey": "SCIZOR_REDIS_URL"}

Judge = Callable[[Facts], Iterator[Check]]


def judge(facts: Facts, groups: Collection[str] = GROUPS, host: str | None = None) -> list[Check]:
    """Return the checks of some groups, in the order of `GROUPS`.

    Args:
        facts: what was read.
        groups: which checks.
        host: judge workers of this machine only.
    """
    # Markets need their calendars, which take a second to load.
    if set(groups) & {"markets", "freshness", "completeness"}:
        from scizor_resources.health import market_checks

        judges: dict[str, Judge] = {
            "markets": market_checks.markets,
            "freshness": market_checks.freshness,
            "completeness": market_checks.completeness,
        }
    else:
        judges = {}
    judges |= {
        "servers": _servers,
        "dagster": _dagster,
        "workers": lambda each: _workers(each, host),
        "runs": _runs,
        "providers": _providers,
        "collectors": _collectors,
        "streaming": _streaming,
        "alerts": _alerts,
        "machine": _machine,
        "archive": _archive,
    }
    found: list[Check] = []
    for group in GROUPS:
        if group not in groups:
            continue
        if group in facts.problems:
            said = f"{sentence(facts.problems[group])} Nothing is known."
            found.append(Check(group, group, "unknown", said))
        else:
            found += judges[group](facts)
    return found


def sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop."""
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def named(names: Collection[str]) -> str:
    """Return the first few names, and how many more there are."""
    first = list(names)[:_NAMED]
    rest = len(names) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest else "")


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 run, 2 runs."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _servers(facts: Facts) -> Iterator[Check]:
    for each in facts.servers:
        title = _TITLES[each.name]
        kind = "embedded" if each.is_embedded else "configured"
        if each.problem is None:
            yield Check("servers", each.name, "ok", f"{title} {each.version}, {kind}.")
            continue
        if not each.is_embedded:
            advice = f"Start that server, or correct {_VARIABLES[each.name]}."
        elif each.problem == NOT_RUNNING:
            advice = "Start the platform with `scizor up`."
        else:
            advice = f"It runs and cannot be used: see {_LOGS[each.name]} in the home."
        yield Check("servers", each.name, "fail", f"{sentence(each.problem)} {advice}")
    if facts.revision is None:
        return
    needed, revision = facts.needed_revision, facts.revision
    if revision == needed:
        yield Check("servers", "schema", "ok", f"Revision {revision}.")
        return
    if revision > needed:
        advice = f"this version of scizor knows up to {needed}: install the one that upgraded it."
    else:
        advice = f"this version of scizor needs {needed}: run `scizor db upgrade`."
    said = f"The schema is at revision {revision or 'none'}, {advice}"
    yield Check("servers", "schema", "fail", said)


def _dagster(facts: Facts) -> Iterator[Check]:
    known = facts.dagster
    if known is None:
        yield Check("dagster", "daemon", "unknown", "Nobody could be asked.")
        return
    yield _daemon(facts.at, known.heartbeats or {}, known.errors)
    ended = [each for each in known.processes if not each.is_alive]
    if known.up:
        names = ", ".join(each.name for each in known.processes)
        yield (
            Check(
                "dagster",
                "processes",
                "fail",
                f"{named([each.name for each in ended])} of `scizor up` ended; it starts them "
                "again. If this stays, see the logs in the home's folder logs.",
            )
            if ended
            else Check("dagster", "processes", "ok", f"{names} run.")
        )
    if known.ui_url is not None and known.ui_problem is not None:
        said = (
            f"The UI at {known.ui_url} does not answer: {known.ui_problem}. It needs some seconds "
            "to start; after that see logs/webserver.log in the home."
        )
        yield Check("dagster", "ui", "fail", said)
    elif known.ui_url is not None:
        yield Check("dagster", "ui", "ok", f"It answers at {known.ui_url}.")


def _daemon(now: datetime, heartbeats: Mapping[str, datetime], errors: Mapping[str, str]) -> Check:
    start = "Start it with `scizor up`."
    if not heartbeats:
        return Check("dagster", "daemon", "fail", f"The daemon has never run. {start}")
    newest = max(heartbeats.values())
    detail = {"last_heartbeat_at": newest}
    if now - newest > HEARTBEAT_LATE:
        said = (
            f"The daemon was heard of last {span(now - newest)} ago: schedules, sensors and "
            f"backfills stand still. {start}"
        )
        return Check("dagster", "daemon", "fail", said, detail)
    late = [name.lower() for name, at in heartbeats.items() if now - at > THREAD_LATE]
    if late:
        said = f"Part of the daemon was not heard of for long: {named(late)}. See logs/daemon.log."
        return Check("dagster", "daemon", "warn", said, detail)
    if errors:
        name, error = next(iter(errors.items()))
        said = (
            f"The daemon reports an error ({name.lower()}): {sentence(error)} See logs/daemon.log."
        )
        return Check("dagster", "daemon", "warn", said, detail)
    return Check("dagster", "daemon", "ok", f"Heard of {span(now - newest)} ago.", detail)


def _workers(facts: Facts, host: str | None) -> Iterator[Check]:
    known = facts.workers
    if known is None or known.problem is not None:
        why = known.problem if known is not None and known.problem else "Valkey could not be asked"
        yield Check("workers", "workers", "unknown", sentence(f"The workers are not known: {why}"))
        return
    running = {
        name: runs
        for name, runs in known.running.items()
        if host is None or name.partition("@")[2] == host
    }
    detail = {"workers": running, "waiting": dict(known.waiting)}
    waiting = sum(known.waiting.values())
    if not running:
        where = "" if host is None else f" on {host}"
        said = f"No worker answers{where}: runs wait. Start `scizor up`, or `scizor worker`."
        yield Check("workers", "workers", "fail", said, detail)
        return
    said = (
        f"{count(len(running), 'worker')}: {named(list(running))}; "
        f"{count(sum(running.values()), 'run')} at work, {waiting} waiting."
    )
    state: State = "ok"
    if host is None and known.expected is not None and known.expected > len(running):
        state = "warn"
        said = (
            f"Only {len(running)} of {known.expected} workers answer ({named(list(running))}). One "
            "that has just started answers soon; one that hangs has to be started anew."
        )
    taken = {queue for name in running for queue in known.queues.get(name, ())}
    idle = [queue for queue in known.waiting if queue not in taken]
    if host is None and known.queues and idle:
        state = "fail" if "live" in idle else "warn"
        said = f"No worker takes from queue {' and '.join(idle)}. Start `scizor worker`."
    yield Check("workers", "workers", state, said, detail)


def _runs(facts: Facts) -> Iterator[Check]:
    known = facts.runs
    if known is None:
        yield Check("runs", "runs", "unknown", "Nobody could be asked.")
        return
    running = known.counts.get("STARTED", 0) + known.counts.get("CANCELING", 0)
    waiting = sum(known.counts.values()) - running
    said = f"{running} running, {waiting} waiting, {known.succeeded:,} succeeded in 24 hours."
    detail = {"counts": dict(known.counts), "failed": list(known.failed)}
    if known.failed:
        said = (
            f"{count(len(known.failed), 'run')} of the last 24 hours failed and no later one made "
            f"it good: {named(known.failed)}. The UI has the reasons under Runs."
        )
    stuck = [
        each
        for each in known.under_way
        if each.queue == "live"
        and each.status not in ("STARTED", "CANCELING")
        and facts.at - each.created_at > LIVE_WAIT
    ]
    if stuck:
        oldest = min(each.created_at for each in stuck)
        said = (
            f"{count(len(stuck), 'live run')} wait for {span(facts.at - oldest)}: "
            f"{named([each.subject for each in stuck])}. Look at the workers, or start one more."
        )
    yield Check("runs", "runs", "warn" if known.failed or stuck else "ok", said, detail)
    if not known.backfills:
        yield Check("runs", "backfills", "ok", "None is under way.")
        return
    failing = [each for each in known.backfills if each.failed or each.runs.get("FAILURE")]
    parts = [
        f"{each.subject} {each.done:,} of {each.partitions:,} partitions"
        if each.partitions
        else each.subject
        for each in known.backfills
    ]
    said = f"{count(len(parts), 'backfill')} under way: {named(parts)}."
    if failing:
        said += f" Runs failed in {named([each.subject for each in failing])}; the UI has why."
    yield Check("runs", "backfills", "warn" if failing else "ok", said)


def _providers(facts: Facts) -> Iterator[Check]:
    for each in facts.providers or ():
        detail = {"used": each.used, "limit": each.limit, "seconds": each.seconds}
        if each.next_try_at is not None:
            said = (
                f"{each.title} failed {each.failures} times in a row and is left alone until "
                f"{each.next_try_at:%H:%M:%S}Z. {sentence(each.last_error)}"
            )
            yield Check("providers", each.name, "warn", said.strip(), detail)
        elif each.paused_until is not None:
            said = f"Paused until {each.paused_until:%H:%M:%S}Z. {sentence(each.paused_why)}"
            yield Check("providers", each.name, "warn", said.strip(), detail)
        else:
            used = (
                "no limit" if each.limit is None else f"{each.used:,} of {each.limit:,} calls used"
            )
            yield Check("providers", each.name, "ok", sentence(used), detail)


def _collectors(facts: Facts) -> Iterator[Check]:
    automations = facts.dagster.automations if facts.dagster is not None else {}
    for each in facts.collectors or ():
        detail = {"last_at": each.last_at, "status": each.status}
        schedule = f"{each.asset.replace('/', '_')}_refresh"
        late = each.last_at is not None and facts.at - each.last_at > 2 * each.every + THREAD_LATE
        if each.status == "failed":
            yield Check("collectors", each.name, "warn", sentence(each.error), detail)
        elif late and each.last_at is not None and automations.get(schedule):
            said = (
                f"Its last collection was {span(facts.at - each.last_at)} ago, though it is asked "
                f"every {span(each.every)}. Look for failed runs of {each.asset}."
            )
            yield Check("collectors", each.name, "warn", said, detail)
        else:
            said = (
                f"Collected {span(facts.at - each.last_at)} ago."
                if each.last_at
                else "Not asked so far."
            )
            yield Check("collectors", each.name, "ok", said, detail)


def _streaming(facts: Facts) -> Iterator[Check]:
    known = facts.streaming
    if known is None:
        yield Check("streaming", "sidecar", "unknown", "Nobody could be asked.")
        return
    state = known.state
    if state is None:
        if known.is_wanted:
            said = "No streaming sidecar runs. Start `scizor up`, or `scizor sidecar`."
            yield Check("streaming", "sidecar", "fail", said)
        else:
            yield Check("streaming", "sidecar", "ok", "No live feed is set up.")
        return
    detail = {each: state.get(each) for each in ("pid", "host", "url", "batches_on_disk")}
    if state.get("batches_on_disk"):
        said = (
            f"Bars wait on disk ({state['batches_on_disk']:,} batches): PostgreSQL cannot be "
            "written to. They follow when it can."
        )
        yield Check("streaming", "sidecar", "warn", said, detail)
    else:
        said = f"It runs on {state.get('host')}, page and API at {state.get('url')}."
        yield Check("streaming", "sidecar", "ok", said, detail)
    for name, feed in state.get("feeds", {}).items():
        if feed["state"] in ("connected", "idle"):
            rate = f"{count(feed['streams'], 'symbol')}, {feed['trades_per_second']:g} trades/s"
            yield Check("streaming", name, "ok", f"{sentence(feed['state'])} {rate}.")
        else:
            said = f"{sentence(feed['state'])} {sentence(feed['why'])}"
            yield Check("streaming", name, "fail" if feed["state"] == "refused" else "warn", said)


def _alerts(facts: Facts) -> Iterator[Check]:
    known = facts.alerts
    if known is None:
        yield Check("alerts", "alerts", "unknown", "Nobody could be asked.")
        return
    unseen = {name: all_ - seen for name, (all_, seen) in known.counts.items() if all_ > seen}
    total = sum(all_ for all_, _ in known.counts.values())
    state: State = "fail" if "critical" in unseen else "warn" if "high" in unseen else "ok"
    said = "None stands." if not total else f"{count(total, 'alert')} stand"
    if total:
        said += f", {sum(unseen.values())} of them not acknowledged"
        first = next((each for each in known.last if not each.is_acknowledged), known.last[0])
        said = f"{said}. {first.severity}: {sentence(first.title)} See `scizor alerts list`."
    yield Check("alerts", "alerts", state, said, {"unacknowledged": unseen})
    if known.unsent:
        said = (
            f"{count(known.unsent, 'message')} could not be sent for ten minutes. Try the channels "
            "with `scizor alerts test`; the schedule alerts_evaluation has to be on."
        )
        yield Check("alerts", "messages", "warn", said)


def _machine(facts: Facts) -> Iterator[Check]:
    known = facts.machine
    if known is None:
        return
    for name, percent, free, advice in (
        ("disk", known.disk_percent, known.disk_free, "Make room, or archive older months."),
        ("memory", known.memory_percent, known.memory_free, "Lower SCIZOR_WORKER_CONCURRENCY."),
    ):
        limits = facts.thresholds[f"{name}_use_percent"]
        state: State = (
            "fail" if percent > limits.fail else "warn" if percent > limits.warn else "ok"
        )
        said = f"{percent:.0f} % used, {bytes_of(free)} free."
        said += f" {advice}" if state != "ok" else ""
        yield Check("machine", name, state, said, {"percent": round(percent, 1), "free": free})


def _archive(facts: Facts) -> Iterator[Check]:
    known = facts.archive
    if known is None:
        yield Check("archive", "archive", "unknown", "Nobody could be asked.")
        return
    if not known.states:
        yield Check("archive", "archive", "ok", "Nothing is archived yet.")
        return
    states = ", ".join(f"{number} {state}" for state, number in sorted(known.states.items()))
    said = f"{count(sum(known.states.values()), 'file')} ({states}) with {known.rows:,} bars."
    if known.unverified:
        said = (
            f"{count(known.unverified, 'file')} were written more than a day ago and never "
            "verified. Run `scizor archive run`."
        )
    yield Check("archive", "archive", "warn" if known.unverified else "ok", said)
