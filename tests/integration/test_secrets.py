"""Keys and passwords show nowhere: logs, errors, metadata, tables, files, representations.

Each secret of the settings is a word that cannot occur by chance. The keyed adapters are driven
into every kind of error through real runs, and what these leave behind is searched for the words.
"""

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest
import redis
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner

from scizor_assets.build import build_defs
from scizor_cli import main
from scizor_core.errors import ScizorError
from scizor_resources.errors import ProviderError, WarehouseError
from scizor_resources.platform import Platform
from scizor_resources.provider_settings import ProviderSettings
from scizor_resources.providers.base import BarRequest, SymbolRef
from scizor_resources.providers.gate import Gate, Lane
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings, load_settings
from tests.contract.lab import alpaca, finnhub
from tests.contract.lab.alpaca import AlpacaLab
from tests.contract.lab.finnhub import FinnhubLab
from tests.contract.lab.server import Reply, Row, Seen

from .helpers import query

#: Variable -> the word that must not be seen. The last two are passwords inside of URLs.
MARKERS = {
    "SCIZOR_ALPACA_API_KEY": "AKMARKEDKEY0ALPACA01",
    "SCIZOR_ALPACA_SECRET": "markedsecretalpaca0000000000000000000002",
    "SCIZOR_FINNHUB_API_KEY": "markedkeyfinnhub0003",
    "SCIZOR_DATABASE_URL": "markedpassworddatabase4",
    "SCIZOR_REDIS_URL": "markedpasswordredis5",
    "SCIZOR_GLASSNODE_API_KEY": "markedkeyglassnode06",
    "SCIZOR_NANSEN_API_KEY": "markedkeynansen07",
    "SCIZOR_CRYPTOPANIC_API_KEY": "markedkeycryptopanic08",
    "SCIZOR_NEWSCATCHER_API_KEY": "markedkeynewscatcher09",
    "SCIZOR_REDDIT_CLIENT_ID": "markedidreddit10",
    "SCIZOR_REDDIT_CLIENT_SECRET": "markedsecretreddit11",
    "SCIZOR_X_BEARER_TOKEN": "markedtokenx12",
    "SCIZOR_AUTHOR_KEY": "markedkeyauthor13",
    "SCIZOR_API_KEY": "markedkeyapi18",
    "SCIZOR_ALERT_URLS_CRITICAL": "json://markedalertcritical14.invalid",
    "SCIZOR_ALERT_URLS_HIGH": "json://markedalerthigh15.invalid",
    "SCIZOR_ALERT_URLS_MEDIUM": "json://markedalertmedium16.invalid",
    "SCIZOR_ALERT_URLS_LOW": "json://markedalertlow17.invalid",
}
SESSION, NEXT_DAY = date(2022, 1, 4), date(2022, 1, 5)
START = datetime(2022, 1, 4, 14, 30, tzinfo=UTC)
END = datetime(2022, 1, 4, 21, tzinfo=UTC)


# --- what is searched -----------------------------------------------------------------------


def places_with_secrets(shown: dict[str, str]) -> list[str]:
    """Return the places whose text has one of the words in it, whatever its case."""
    words = [word.lower() for word in MARKERS.values()]
    return [place for place, text in shown.items() if any(word in text.lower() for word in words)]


class EveryRecord(logging.Handler):
    """Takes the records of all loggers, also of those that keep theirs to themselves."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._changed: list[tuple[logging.Logger, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = logging.Formatter().format(record)
        self.lines.append(f"{record.name} {text} {record.args!r}")

    def listen(self) -> None:
        known = list(logging.root.manager.loggerDict.values())
        loggers = [each for each in known if isinstance(each, logging.Logger)]
        for logger in (logging.root, *loggers):
            self._changed.append((logger, logger.level))
            logger.setLevel(logging.DEBUG)
            if not logger.propagate or logger is logging.root:
                logger.addHandler(self)

    def stop(self) -> None:
        for logger, level in self._changed:
            logger.setLevel(level)
            logger.removeHandler(self)


@pytest.fixture
def log() -> Iterator[EveryRecord]:
    handler = EveryRecord()
    handler.listen()
    yield handler
    handler.stop()


def tables(platform: Platform) -> dict[str, str]:
    """Return table -> all its rows as text."""
    with platform.warehouse.connect() as connection:
        names = connection.execute(
            "SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n "
            "ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'market', 'quality') "
            "AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        ).fetchall()
        return {
            each["name"]: str(
                connection.execute(f"SELECT t::text FROM {each['name']} AS t").fetchall()
            )
            for each in names
        }


def in_valkey(platform: Platform) -> dict[str, str]:
    def read(client: Any) -> dict[str, str]:
        return {f"valkey {key}": f"{key} {client.dump(key)!r}" for key in client.scan_iter()}

    address = platform.endpoints.redis_url
    with redis.Redis.from_url(address) as client:
        return read(client)


def files(platform: Platform) -> dict[str, str]:
    return {
        f"file {path.name}": path.read_bytes().decode(errors="replace")
        for path in platform.settings.home.rglob("*")
        if path.is_file()
    }


def events(instance: dg.DagsterInstance) -> dict[str, str]:
    """Return everything that Dagster has kept of all runs."""
    shown = {}
    for run in instance.get_runs():
        shown[f"run {run.run_id}"] = f"{run!r} {run.tags} {run.run_config}"
        for number, entry in enumerate(instance.all_logs(run.run_id)):
            shown[f"event {number} {entry.dagster_event_type}"] = f"{entry.to_json()} {entry!r}"
    return shown


def traced(error: BaseException, *, local_variables: bool) -> str:
    """Return an error with its causes as a terminal shows it, and its attributes."""
    found = traceback.TracebackException.from_exception(error, capture_locals=local_variables)
    return f"{''.join(found.format())} {error!r} {vars(error)}"


# --- the platform and the providers ---------------------------------------------------------


class Careless:
    """Part of a lab: refuses with a repetition of all that it was sent.

    Attributes:
        refusal: status of the refusals, None where there are none.
        replies_first: answers given before any others.
    """

    refusal: int | None = None
    replies_first: tuple[Reply, ...] = ()

    def respond(self, seen: Seen) -> Reply:
        if self.refusal is not None:
            words = f"not valid: {seen.headers}"
            return Reply({"message": words, "error": words}, self.refusal)
        if self.replies_first:
            first, *rest = self.replies_first
            self.replies_first = tuple(rest)
            return first
        answer: Reply = super().respond(seen)  # type: ignore[misc]  # the lab's
        return answer


class CarelessAlpaca(Careless, AlpacaLab): ...


class CarelessFinnhub(Careless, FinnhubLab): ...


Labs = tuple[CarelessAlpaca, CarelessFinnhub]


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Labs]:
    monkeypatch.setattr(alpaca, "KEY_ID", MARKERS["SCIZOR_ALPACA_API_KEY"])
    monkeypatch.setattr(finnhub, "KEY", MARKERS["SCIZOR_FINNHUB_API_KEY"])
    with CarelessAlpaca() as first, CarelessFinnhub() as second:
        rows = [Row(START.replace(minute=30 + number)) for number in range(20)]
        first.put("AAPL", "1m", rows)
        second.put("AAPL", "1m", rows)
        yield first, second


@pytest.fixture
def marked_settings(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of the providers with a marked value for each key."""
    values = {
        **{name: word for name, word in MARKERS.items() if not name.endswith("_URL")},
        "SCIZOR_ALPACA_BASE_URL": labs[0].url,
        "SCIZOR_FINNHUB_BASE_URL": f"{labs[1].url}/api/v1",
        "SCIZOR_CHAIN_US": "alpaca,finnhub",
        "SCIZOR_PROVIDER_TIMEOUT_SECONDS": "2",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture
def marked(
    platform: Platform,
    labs: Labs,
    marked_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Platform]:
    """The platform with a marked value for each secret of the settings."""
    user, password = "marked", MARKERS["SCIZOR_REDIS_URL"]
    platform.link.call(lambda client: client.flushdb())
    platform.link.call(
        lambda client: client.acl_setuser(
            user, enabled=True, passwords=[f"+{password}"], keys=["*"], categories=["+@all"]
        )
    )
    database = sa.make_url(platform.endpoints.libpq_url).set(
        password=MARKERS["SCIZOR_DATABASE_URL"]
    )
    scheme, _, place = platform.endpoints.redis_url.partition("://")
    monkeypatch.setenv("SCIZOR_DATABASE_URL", database.render_as_string(hide_password=False))
    monkeypatch.setenv("SCIZOR_REDIS_URL", f"{scheme}://{user}:{password}@{place}")
    with Platform.open(load_settings()) as opened:
        opened.now = lambda: datetime(2022, 1, 5, tzinfo=UTC)
        opened.reference.ensure("us", "AAPL")
        make_gate = opened.gate

        def gate(provider: str, lane: Lane = "backfill") -> Gate:
            made = make_gate(provider, lane)
            made.attempts = 1
            return made

        monkeypatch.setattr(opened, "gate", gate)
        yield opened
    platform.link.call(lambda client: client.flushdb())
    platform.link.call(lambda client: client.acl_deluser(user))


Fault = Callable[[CarelessAlpaca | CarelessFinnhub], None]


def refuse(status: int) -> Fault:
    return lambda lab: setattr(lab, "refusal", status)


def reply(answer: Reply) -> Fault:
    return lambda lab: setattr(lab, "replies_first", (answer, answer))


#: Name -> how a lab gets it, and what the accounts say of it.
FAULTS: dict[str, tuple[Fault, str]] = {
    "401": (refuse(401), "answered 401"),
    "429": (refuse(429), "answered 429"),
    "429 with a rest": (lambda lab: lab.inject("rate_limited_retry_after"), "answered 429"),
    "400": (refuse(400), "answered 400"),
    "500": (refuse(500), "answered 500"),
    "HTML": (lambda lab: lab.inject("html"), "the body is HTML"),
    "cut": (lambda lab: lab.inject("cut_body"), "could not be reached"),
    "silence": (lambda lab: lab.inject("silence"), "could not be reached"),
    "refused": (lambda lab: lab.stop(), "could not be reached"),
    "moved": (reply(Reply({}, 302, {"Location": "http://127.0.0.1:9/"})), "answered 302"),
    "drift": (reply(Reply({"bars": [1], "s": "odd"})), "does not have the agreed shape"),
}
FAULT_NAMES = list(FAULTS)
#: Those that a run is made for.
RUN_FAULTS = ["401", "429", "400", "500", "HTML", "silence", "refused", "drift"]


def break_all(labs: Labs, name: str) -> None:
    for lab in labs:
        FAULTS[name][0](lab)


def run_bars(platform: Platform, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Run a session of `us/bars_1m` for AAPL, with everything said on the console."""
    defs = build_defs({"platform": dg.ResourceDefinition.hardcoded_resource(platform)}, marts=False)
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["us", "bars_1m"])],
        partition_key=str(SESSION),
        run_config={
            "ops": {"us__bars_1m": {"config": {"symbols": ["AAPL"]}}},
            "loggers": {"console": {"config": {"log_level": "DEBUG"}}},
        },
        raise_on_error=False,
    )


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(each, marks=[] if number % 2 else [pytest.mark.slow])
        for number, each in enumerate(RUN_FAULTS)
    ],
)
def test_runs_in_which_keyed_providers_fail_leave_no_secret_anywhere(
    marked: Platform,
    labs: Labs,
    log: EveryRecord,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    break_all(labs, fault)
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run_bars(marked, instance)
        marked.link.call(lambda client: client.flushdb())
        chain = (*marked.settings.chain("us"), "simulated")
        chosen = marked.settings.model_copy(update={"chain_us": chain})
        monkeypatch.setattr(marked, "settings", chosen)
        rescued = run_bars(marked, instance)
        shown = events(instance)
    shown |= tables(marked) | in_valkey(marked) | files(marked)
    shown |= {f"log {number}": line for number, line in enumerate(log.lines)}
    shown |= dict(zip(("stdout", "stderr"), capfd.readouterr(), strict=True))

    errors = query(marked, "SELECT provider, error FROM public.collector_runs WHERE error <> ''")
    assert sorted(row["provider"] for row in errors) == ["alpaca", "alpaca", "finnhub", "finnhub"]
    assert all(FAULTS[fault][1] in row["error"] for row in errors)
    # What cannot be had is an answer; everything else is a failure.
    assert (failed.success, rescued.success) == (fault == "400", True)
    assert "us__bars_1m" in shown["stderr"]
    assert places_with_secrets(shown) == []


def test_rows_in_quarantine_have_no_secret(marked: Platform, labs: Labs) -> None:
    for lab in labs:
        lab.data_faults.add("null_rows")
    for name in ("alpaca", "finnhub"):
        report = marked.collector("us", "1m").collect(SESSION, NEXT_DAY, ["AAPL"], [name])
        assert report.refused == 1

    sent = {name: str(lab.requests) for name, lab in zip(("alpaca", "finnhub"), labs, strict=True)}
    assert places_with_secrets(sent) == ["alpaca", "finnhub"]
    found = query(marked, "SELECT * FROM quality.quarantine")
    assert {row["source"] for row in found} == {"alpaca-iex", "finnhub"}
    assert places_with_secrets({"quarantine": str(found)}) == []


@pytest.mark.parametrize("provider", ["alpaca", "finnhub"])
@pytest.mark.parametrize("fault", FAULT_NAMES)
def test_an_error_with_its_causes_shows_no_secret(
    labs: Labs, marked_settings: Settings, fault: str, provider: str
) -> None:
    break_all(labs, fault)
    gate = Gate(provider, attempts=1)
    source: Any = PROVIDERS[provider].make(marked_settings, gate, lambda: END)
    try:
        batch = source.fetch_bars(BarRequest("us", "1m", START, END, (SymbolRef(1, "AAPL"),)))
    except ProviderError as error:
        # What a provider repeats of a request is in a variable that has the answer.
        shown = traced(error, local_variables=not fault.isdecimal())
    else:
        shown = repr(batch)
    source.close()

    assert FAULTS[fault][1] in shown
    assert places_with_secrets({"error": shown}) == []


# --- representations ------------------------------------------------------------------------


def test_no_part_of_the_platform_shows_a_secret(marked: Platform, labs: Labs) -> None:
    marked.collector("us", "1m").collect(SESSION, NEXT_DAY, ["AAPL"])
    parts: dict[str, Any] = {"platform": marked, "settings": marked.settings}
    parts |= {
        name: getattr(marked, name) for name in ("endpoints", "warehouse", "link", "spending")
    }
    for name in ("alpaca", "finnhub"):
        source: Any = marked.source(name)
        parts |= {name: source, f"{name} api": source._api, f"{name} gate": source.gate}
        parts |= {f"{name} budget": source.gate.budget, f"{name} breaker": source.gate.breaker}
    parts["collector"] = marked.collector("us", "1m")
    parts["resource"] = dg.ResourceDefinition.hardcoded_resource(marked)

    shown = {name: f"{part!r} {part!s} {[part]}" for name, part in parts.items()}

    assert places_with_secrets(shown) == []


def test_the_environment_for_children_is_the_only_way_that_settings_tell_secrets(
    marked: Platform,
) -> None:
    settings = marked.settings
    parts = {*Settings.model_fields, *(set(vars(Settings)) - set(vars(ProviderSettings)))}
    told = {
        name: f"{getattr(settings, name)!r} {getattr(settings, name)!s}"
        for name in parts
        if not name.startswith("_")
    }
    told |= {
        "dump": str(settings.model_dump()),
        "json": settings.model_dump_json(),
        "items": str(dict(settings)),
        "schema": json.dumps(Settings.model_json_schema(), default=str),
    }

    assert places_with_secrets(told) == ["environment"]
    for variable, word in MARKERS.items():
        assert word in settings.environment[variable]


def test_every_setting_that_names_a_key_is_kept_as_a_secret() -> None:
    words = ("key", "secret", "token", "password", "database_url", "redis_url", "reddit_client_id")
    named = {
        name
        for name in Settings.model_fields
        if name.endswith(words) or name.startswith("alert_urls_")
    }
    kept = {
        name
        for name, field in Settings.model_fields.items()
        if field.annotation is not None and SecretStr.__name__ in str(field.annotation)
    }
    assert named == kept
    assert {f"SCIZOR_{name.upper()}" for name in kept} == set(MARKERS)


def test_a_refused_setting_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, word in MARKERS.items():
        monkeypatch.setenv(name, word)
    monkeypatch.setenv("SCIZOR_UI_PORT", "-1")

    with pytest.raises(ScizorError, match="SCIZOR_UI_PORT") as caught:
        load_settings()

    shown = {"error": traced(caught.value, local_variables=False)}
    assert places_with_secrets(shown) == []


# --- commands and servers -------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("status",), ("status", "--json"), ("providers",), ("providers", "--json")],
    ids=" ".join,
)
def test_no_command_about_the_state_of_things_shows_a_secret(
    marked: Platform, labs: Labs, command: tuple[str, ...]
) -> None:
    break_all(labs, "500")
    marked.collector("us", "1m").collect(SESSION, NEXT_DAY, ["AAPL"])

    result = CliRunner().invoke(main.app, list(command))

    assert result.exit_code == 0, result.output
    assert ("answered 500" in result.output) == (command[0] == "providers")
    assert places_with_secrets({"output": result.output}) == []


def test_status_of_servers_that_cannot_be_reached_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCIZOR_HOME", str(tmp_path / "home"))
    set_unreachable(monkeypatch)

    results = [CliRunner().invoke(main.app, ["status", *more]) for more in ([], ["--json"])]

    assert [result.exit_code for result in results] == [1, 1]
    assert places_with_secrets({str(n): each.output for n, each in enumerate(results)}) == []


def set_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure servers at a port where nothing listens."""
    database, valkey = MARKERS["SCIZOR_DATABASE_URL"], MARKERS["SCIZOR_REDIS_URL"]
    monkeypatch.setenv("SCIZOR_DATABASE_URL", f"postgresql://marked:{database}@127.0.0.1:1/scizor")
    monkeypatch.setenv("SCIZOR_REDIS_URL", f"redis://marked:{valkey}@127.0.0.1:1/0")


def test_servers_that_cannot_be_reached_are_reported_without_passwords(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, log: EveryRecord
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCIZOR_HOME", str(tmp_path / "home"))
    set_unreachable(monkeypatch)
    settings = load_settings()
    shown = {}
    with pytest.raises(WarehouseError) as caught:
        Platform.open(settings)
    shown["opening"] = traced(caught.value, local_variables=False)

    platform = Platform(settings, _endpoints(settings))
    with pytest.raises(WarehouseError) as caught:
        platform.reference.watchlist()
    shown["psycopg"] = traced(caught.value, local_variables=False)
    with pytest.raises(WarehouseError) as caught:
        platform.warehouse.read("SELECT 1")
    shown["adbc"] = traced(caught.value, local_variables=False)
    platform.breaker("alpaca").succeeded()
    platform.close()
    shown |= {f"log {number}": line for number, line in enumerate(log.lines)}

    assert any("Valkey cannot be used" in line for line in log.lines)
    assert places_with_secrets(shown) == []


def _endpoints(settings: Settings) -> Any:
    from scizor_resources.endpoints import Endpoints

    assert settings.database_url is not None
    assert settings.redis_url is not None
    return Endpoints(
        settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    )
