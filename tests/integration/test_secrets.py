"""Keys and passwords show nowhere: not in logs, errors, metadata, tables, files or representations.

Each secret of the settings is a word that cannot occur by chance. The keyed adapters are driven into
every kind of error through real runs, and whatever is left behind is searched for the words.
"""

import json
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
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
from scizor_resources.providers.base import BarRequest, SymbolRef
from scizor_resources.providers.gate import Gate, Lane
from scizor_resources.settings import Settings, load_settings
from tests.contract.lab import alpaca, finnhub
from tests.contract.lab.alpaca import AlpacaLab
from tests.contract.lab.finnhub import FinnhubLab
from tests.contract.lab.server import Reply, Row

from .helpers import query

#: Variable -> the word that must not be seen. The last two are passwords inside of URLs.
MARKERS = {
    "SCIZOR_ALPACA_API_KEY": "AKMARKEDKEY0ALPACA01",
    "SCIZOR_ALPACA_SECRET": "markedsecretalpaca0000000000000000000002",
    "SCIZOR_FINNHUB_API_KEY": "markedkeyfinnhub0003",
    "SCIZOR_DATABASE_URL": "markedpassworddatabase4",
    "SCIZOR_REDIS_URL": "markedpasswordredis5",
}
SESSION = "2022-01-04"
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
        known = [each for each in logging.root.manager.loggerDict.values()]
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
    names = query(
        platform,
        "SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n "
        "ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'market', 'quality') "
        "AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
    )
    return {
        each["name"]: str(query(platform, f"SELECT to_jsonb(t)::text FROM {each['name']} AS t"))
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


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[AlpacaLab, FinnhubLab]]:
    monkeypatch.setattr(alpaca, "KEY_ID", MARKERS["SCIZOR_ALPACA_API_KEY"])
    monkeypatch.setattr(finnhub, "KEY", MARKERS["SCIZOR_FINNHUB_API_KEY"])
    with AlpacaLab() as first, FinnhubLab() as second:
        rows = [Row(START.replace(minute=30 + number)) for number in range(20)]
        first.put("AAPL", "1m", rows)
        second.put("AAPL", "1m", rows)
        yield first, second


@pytest.fixture
def marked(
    platform: Platform,
    labs: tuple[AlpacaLab, FinnhubLab],
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
    values = {
        **MARKERS,
        "SCIZOR_DATABASE_URL": database.render_as_string(hide_password=False),
        "SCIZOR_REDIS_URL": f"{scheme}://{user}:{password}@{place}",
        "SCIZOR_ALPACA_BASE_URL": labs[0].url,
        "SCIZOR_FINNHUB_BASE_URL": f"{labs[1].url}/api/v1",
        "SCIZOR_CHAIN_US": "alpaca,finnhub",
        "SCIZOR_PROVIDER_TIMEOUT_SECONDS": "0.3",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
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


def every_secret_told(status: int) -> Reply:
    """Return a refusal that repeats what it was sent, as careless servers do."""
    said = " ".join(list(MARKERS.values())[:3])
    return Reply({"message": f"not valid: {said}", "error": f"not valid: {said}"}, status)


Fault = Callable[[AlpacaLab | FinnhubLab], None]


def replies(*answers: Reply) -> Fault:
    """Return a fault that makes a lab give these answers first."""

    def change(lab: AlpacaLab | FinnhubLab) -> None:
        script = lab.script.replies if isinstance(lab, AlpacaLab) else lab.replies
        script.extend(answers)

    return change


#: Name -> how a lab gets it, and what the accounts say of it.
FAULTS: dict[str, tuple[Fault, str]] = {
    "401": (replies(every_secret_told(401)), "answered 401"),
    "403": (replies(every_secret_told(403)), "answered 403"),
    "429": (lambda lab: lab.inject("rate_limited_retry_after"), "answered 429"),
    "400": (replies(every_secret_told(400)), "answered 400"),
    "500": (replies(every_secret_told(500)), "answered 500"),
    "HTML": (lambda lab: lab.inject("html"), "the body is HTML"),
    "cut": (lambda lab: lab.inject("cut_body"), "could not be reached"),
    "silence": (lambda lab: lab.inject("silence"), "could not be reached"),
    "refused": (lambda lab: lab.stop(), "could not be reached"),
    "moved": (replies(Reply({}, 302, {"Location": "http://127.0.0.1:9/"})), "answered 302"),
    "drift": (replies(Reply({"bars": [1], "s": "odd"})), "does not have the agreed shape"),
}
FAULT_NAMES = list(FAULTS)


def break_all(labs: Iterable[AlpacaLab | FinnhubLab], name: str) -> None:
    for lab in labs:
        FAULTS[name][0](lab)


def run_bars(platform: Platform, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Run a session of `us/bars_1m` for AAPL, with everything said on the console."""
    defs = build_defs({"platform": dg.ResourceDefinition.hardcoded_resource(platform)}, marts=False)
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["us", "bars_1m"])],
        partition_key=SESSION,
        run_config={
            "ops": {"us__bars_1m": {"config": {"symbols": ["AAPL"]}}},
            "loggers": {"console": {"config": {"log_level": "DEBUG"}}},
        },
        raise_on_error=False,
    )


@pytest.mark.parametrize("fault", FAULT_NAMES)
@pytest.mark.parametrize("chain", ["alpaca,finnhub", "alpaca,finnhub,simulated"])
def test_a_run_in_which_keyed_providers_fail_leaves_no_secret_anywhere(
    marked: Platform,
    labs: tuple[AlpacaLab, FinnhubLab],
    log: EveryRecord,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    chain: str,
) -> None:
    chosen = marked.settings.model_copy(update={"chain_us": tuple(chain.split(","))})
    monkeypatch.setattr(marked, "settings", chosen)
    break_all(labs, fault)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_bars(marked, instance)
        shown = events(instance)
    shown |= tables(marked) | in_valkey(marked) | files(marked)
    shown |= {f"log {number}": line for number, line in enumerate(log.lines)}
    shown |= dict(zip(("stdout", "stderr"), capfd.readouterr(), strict=True))

    errors = query(marked, "SELECT provider, error FROM public.collector_runs WHERE error <> ''")
    assert {row["provider"] for row in errors} == {"alpaca", "finnhub"}
    assert all(FAULTS[fault][1] in row["error"] for row in errors)
    assert result.success == chain.endswith("simulated")
    assert "us__bars_1m" in shown["stderr"]
    assert places_with_secrets(shown) == []


def test_rows_in_quarantine_have_no_secret(
    marked: Platform, labs: tuple[AlpacaLab, FinnhubLab]
) -> None:
    for lab in labs:
        lab.data_faults.add("null_rows")
    for name in ("alpaca", "finnhub"):
        report = marked.collector("us", "1m").collect(
            START.date(), END.date().replace(day=5), ["AAPL"], [name]
        )
        assert report.refused == 1

    sent = {name: str(lab.requests) for name, lab in zip(("alpaca", "finnhub"), labs, strict=True)}
    assert places_with_secrets(sent) == ["alpaca", "finnhub"]
    found = query(marked, "SELECT * FROM quality.quarantine")
    assert {row["source"] for row in found} == {"alpaca-iex", "finnhub"}
    assert places_with_secrets({"quarantine": str(found)}) == []


@pytest.mark.parametrize("fault", FAULT_NAMES)
def test_an_error_shows_no_secret_even_with_its_local_variables(
    marked: Platform, labs: tuple[AlpacaLab, FinnhubLab], fault: str
) -> None:
    break_all(labs, fault)
    request = BarRequest("us", "1m", START, END, (SymbolRef(1, "AAPL"),))
    shown = {}
    for name in ("alpaca", "finnhub"):
        source: Any = marked.source(name)
        with suppress(ProviderError):
            batch = source.fetch_bars(request)
            shown[f"{name} answer"] = str(batch)
        try:
            source._api.get("/stock/candle", {"symbol": "AAPL"})
        except ProviderError as error:
            shown[f"{name} error"] = traced(error, local_variables=True)

    assert places_with_secrets(shown) == []


# --- representations ------------------------------------------------------------------------


def test_no_part_of_the_platform_shows_a_secret(
    marked: Platform, labs: tuple[AlpacaLab, FinnhubLab]
) -> None:
    marked.collector("us", "1m").collect(START.date(), END.date().replace(day=5), ["AAPL"])
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
    names = {name for name in dir(Settings) if not name.startswith("_")} - set(dir(type(Settings)))
    told = {}
    for name in sorted({*names, *Settings.model_fields}):
        value = getattr(settings, name)
        if not callable(value):
            told[name] = f"{value!r} {value!s}"
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
    words = ("key", "secret", "token", "password", "database_url", "redis_url")
    named = {name for name in Settings.model_fields if name.endswith(words)}
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


def test_status_shows_no_password(marked: Platform) -> None:
    result = CliRunner().invoke(main.app, ["status", "--json"])

    report = json.loads(result.stdout)
    assert {each["kind"] for each in report["servers"]} == {"configured"}
    assert all(each["running"] for each in report["servers"])
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
