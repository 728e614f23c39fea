"""Run assets in this process, as recorded runs of the Dagster instance.

The CLI's way to materialize: no webserver, daemon or worker has to run, and every run shows in
the UI afterwards with its partitions, metadata and check results.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY
from scizor_assets.bars import PARTITIONS_PER_RUN
from scizor_assets.build import build_defs
from scizor_assets.jobs import assets_below
from scizor_assets.launcher import PROCESS_TAG, process_tag
from scizor_assets.partitions import partitions_of
from scizor_core.errors import InvalidInputError, ScizorError
from scizor_core.markets import Timeframe, get_market
from scizor_resources.dagster_home import prepare_dagster_home, process_environment
from scizor_resources.platform import Platform

#: Assets that cannot be narrowed to some symbols.
_WHOLE = (
    "marts/",
    "staging/",
    "reference/",
    "glass/",
    "human/",
    "catalyst/",
    "exchange/",
    "maintenance/",
    "archive/",
)


class RunFailedError(ScizorError):
    """A run did not succeed; the message holds each failed step's sentence."""


@dataclass(frozen=True)
class Launch:
    """One run to make.

    Attributes:
        assets: asset keys as users write them, `asx/bars_1m`; dbt models included.
        partition: one partition key, None for unpartitioned assets.
        last_partition: end of a range that starts at `partition`, both included.
        symbols: narrows the run to these.
        providers: narrows what bars are asked of to these.
        title: what the run does, for progress displays.
        config: further run config of the assets, as their config classes have it.
        bars: further run config of bars alone.
        tags: further tags of the run.
    """

    assets: tuple[str, ...]
    partition: str | None = None
    last_partition: str | None = None
    symbols: tuple[str, ...] | None = None
    title: str = ""
    providers: tuple[str, ...] | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    bars: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Launcher:
    """Executes launches on one instance with definitions that share the opened platform.

    Args:
        platform: the opened platform.
        marts: leave the dbt models out if false; loading them costs seconds.
    """

    def __init__(self, platform: Platform, *, marts: bool = True) -> None:
        self._platform = platform
        resource = dg.ResourceDefinition.hardcoded_resource(platform)
        self._defs = build_defs({"platform": resource}, marts=marts)
        self._job = self._defs.resolve_implicit_global_asset_job_def()

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open the platform's Dagster instance."""
        endpoints, settings = self._platform.endpoints, self._platform.settings
        home = prepare_dagster_home(settings, endpoints)
        os.environ.update(process_environment(settings, endpoints, home))
        with dg.DagsterInstance.get() as instance:
            yield instance

    def known_assets(self) -> set[str]:
        """Return all asset keys as users write them."""
        return {
            key.to_user_string() for key in self._defs.resolve_asset_graph().get_all_asset_keys()
        }

    def run(self, instance: dg.DagsterInstance, launch: Launch) -> dg.ExecuteInProcessResult:
        """Execute one launch.

        Raises:
            InvalidInputError: an asset or partition key that does not exist.
            RunFailedError: a step failed.
            KeyboardInterrupt: Ctrl-C; the run is recorded as failed.
        """
        keys = self._keys(launch)
        self._check_partitions(launch)
        tags = {LAUNCHED_BY: "cli", PROCESS_TAG: process_tag(), **launch.tags}
        partition = launch.partition
        if launch.last_partition is not None and launch.last_partition != partition:
            tags["dagster/asset_partition_range_start"] = str(partition)
            tags["dagster/asset_partition_range_end"] = launch.last_partition
            partition = None
        log = self._platform.settings.home / "logs" / "runs.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        # dbt talks to stdout, which belongs to the progress display.
        with log.open("a") as output, contextlib.redirect_stdout(output):
            result = self._job.execute_in_process(
                instance=instance,
                asset_selection=keys,
                partition_key=partition,
                tags=tags,
                run_config=self._run_config(launch),
                raise_on_error=False,
            )
        if not result.success:
            if _was_interrupted(result):
                raise KeyboardInterrupt
            raise RunFailedError(_failure_sentence(result, launch))
        return result

    def _keys(self, launch: Launch) -> list[dg.AssetKey]:
        known = self.known_assets()
        for asset in launch.assets:
            if asset not in known:
                near = sorted(name for name in known if name.split("/")[-1] == asset.split("/")[-1])
                hint = f" Did you mean {', '.join(near)}?" if near else ""
                raise InvalidInputError(
                    f"There is no asset '{asset}'.{hint} `dg list defs` shows all of them."
                )
        return [dg.AssetKey.from_user_string(asset) for asset in launch.assets]

    def _check_partitions(self, launch: Launch) -> None:
        for asset in launch.assets:
            partitions = self._partitions(asset, launch.partition)
            if partitions is not None:
                for key in (launch.partition, launch.last_partition):
                    if key is not None:
                        _check_key(asset, partitions, key)

    def _partitions(
        self, asset: str, first: str | None
    ) -> dg.TimeWindowPartitionsDefinition | None:
        """Return the partitions of an asset, None where it has none and none was asked for."""
        graph = self._defs.resolve_asset_graph()
        partitions = graph.get(dg.AssetKey.from_user_string(asset)).partitions_def
        if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
            if first is not None:
                raise InvalidInputError(
                    f"'{asset}' has no partitions: leave --partition and --range out."
                )
            return None
        if first is None:
            raise InvalidInputError(
                f"'{asset}' has partitions: give --partition, such as "
                f"{partitions.get_last_partition_key()}, or --range FIRST...LAST."
            )
        return partitions

    def _run_config(self, launch: Launch) -> dict[str, object]:
        # The console belongs to the progress display; the same lines are in the event log.
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        ops: dict[str, dict[str, dict[str, object]]] = {}
        for asset in launch.assets:
            config = dict(launch.config)
            if launch.symbols is not None and not asset.startswith(_WHOLE):
                config["symbols"] = list(launch.symbols)
            if "/bars_" in asset:
                config |= launch.bars
                if launch.providers is not None:
                    config["providers"] = list(launch.providers)
            if config:
                ops[asset.replace("/", "__")] = {"config": config}
        return {**quiet, "ops": ops}

    def split(
        self,
        asset: str,
        first: str | None,
        last: str | None,
        symbols: tuple[str, ...] | None = None,
    ) -> list[Launch]:
        """Return the launches for an asset and a range of its partitions, both ends included.

        Ends of a range need not be partition keys themselves; a single partition has to be one.

        Raises:
            InvalidInputError: no such asset, or no such partition; the message says what there is.
        """
        self._keys(Launch((asset,)))
        partitions = self._partitions(asset, first)
        if partitions is None or first is None:
            return [Launch((asset,), symbols=symbols, title=asset)]
        if last is None:
            _check_key(asset, partitions, first)
        unit = _unit(asset)
        keys = [key for key in partitions.get_partition_keys() if first <= key <= (last or first)]
        if not keys:
            raise InvalidInputError(f"'{asset}' has no {unit} from {first} to {last}.")
        longest = PARTITIONS_PER_RUN["1d" if unit == "month" else "1m"]
        return [
            Launch(
                (asset,), start, end, symbols, f"{asset} {start}" + f" to {end}" * (end != start)
            )
            for start, end in _runs_of(partitions, keys, longest)
        ]


def _unit(asset: str) -> str:
    return "month" if asset.endswith("_1d") or asset == "archive/bars" else "session"


def _check_key(asset: str, partitions: dg.TimeWindowPartitionsDefinition, key: str) -> None:
    if not partitions.has_partition_key(key):
        raise InvalidInputError(
            f"'{asset}' has no partition {key}. Its partitions are {_unit(asset)} dates from "
            f"{partitions.get_first_partition_key()} to {partitions.get_last_partition_key()}; "
            "a day on which the exchange is closed has none."
        )


def launches_for_sessions(
    market: str,
    timeframe: Timeframe,
    session_dates: Sequence[date],
    symbols: Sequence[str] | None = None,
    providers: tuple[str, ...] | None = None,
) -> list[Launch]:
    """Return the launches that bring everything below new bars of a timeframe up to date.

    Args:
        market: name of the market.
        timeframe: finest timeframe that has new bars; coarser ones follow from it.
        session_dates: sessions with new bars.
        symbols: only these symbols.
        providers: only these providers of the market's chain.
    """
    spec = get_market(market)
    chosen = None if symbols is None else tuple(symbols)
    assets = assets_below(spec.name, timeframe)
    group = [each.rpartition("_")[2] for each in assets if "/bars_" in each]
    partitions = partitions_of(spec, timeframe)
    keys = _partition_keys(partitions, session_dates, daily=timeframe == "1d")
    launches = []
    for first, last in _runs_of(partitions, keys, PARTITIONS_PER_RUN[timeframe]):
        shown = first if first == last else f"{first} to {last}"
        title = f"{spec.name} {'/'.join(group)} {shown}"
        launches.append(Launch(assets, first, last, chosen, title, providers))
    return launches


def materialize_sessions(
    platform: Platform,
    market: str,
    timeframe: Timeframe,
    session_dates: Sequence[date],
    symbols: Sequence[str] | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    providers: tuple[str, ...] | None = None,
) -> int:
    """Materialize bars, indicators and completeness of those sessions; returns the runs made.

    Args:
        platform: the opened platform.
        market: name of the market.
        timeframe: finest timeframe that has new bars.
        session_dates: sessions to fill.
        symbols: only these symbols.
        on_progress: called with runs done, runs in all and the title of the next.
        providers: only these providers of the market's chain.

    Raises:
        RunFailedError: a run failed; the runs before it stand.
    """
    launches = launches_for_sessions(market, timeframe, session_dates, symbols, providers)
    launcher = Launcher(platform, marts=False)
    with launcher.instance() as instance:
        for done, launch in enumerate(launches):
            if on_progress is not None:
                on_progress(done, len(launches), launch.title)
            launcher.run(instance, launch)
    if on_progress is not None:
        on_progress(len(launches), len(launches), "done")
    return len(launches)


def _partition_keys(
    partitions: dg.TimeWindowPartitionsDefinition, session_dates: Sequence[date], *, daily: bool
) -> list[str]:
    labels = {day.replace(day=1) if daily else day for day in session_dates}
    wanted = sorted(day.isoformat() for day in labels)
    unknown = [key for key in wanted if not partitions.has_partition_key(key)]
    if unknown:
        first = partitions.get_first_partition_key()
        setting = "SCIZOR_DAILY_START" if daily else "SCIZOR_INTRADAY_START"
        raise InvalidInputError(
            f"There is no partition {unknown[0]}: the first one is {first}. "
            f"Set {setting} to an earlier date."
        )
    return wanted


def _runs_of(
    partitions: dg.TimeWindowPartitionsDefinition, keys: Sequence[str], longest: int
) -> list[tuple[str, str]]:
    """Group neighbouring partition keys into ranges of at most `longest`."""
    runs: list[list[str]] = []
    for key in keys:
        if (
            runs
            and len(runs[-1]) < longest
            and partitions.get_next_partition_key(runs[-1][-1]) == key
        ):
            runs[-1].append(key)
        else:
            runs.append([key])
    return [(run[0], run[-1]) for run in runs]


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Say whether a run failed of Ctrl-C, which Dagster hands to the step as an error."""
    name = dg.DagsterExecutionInterruptedError.__name__
    errors = [each.step_failure_data.error for each in result.all_events if each.is_step_failure]
    return any(error is not None and error.cls_name == name for error in errors)


def _failure_sentence(result: dg.ExecuteInProcessResult, launch: Launch) -> str:
    sentences = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            failure = data.user_failure_data
            error = data.error
            text = failure.description if failure and failure.description else None
            if text is None and error is not None:
                text = (error.cause.message if error.cause else error.message).strip()
            sentences.append(f"{str(event.step_key).replace('__', '/')}: {text}")
    what = launch.title or ", ".join(launch.assets)
    return f"The run of {what} failed. " + " ".join(sentences)
