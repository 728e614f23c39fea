"""Settings: where they come from, what is refused, and that secrets stay hidden."""

from pathlib import Path

import pytest

from scizor_core.errors import ConfigError
from scizor_core.markets import MARKETS
from scizor_resources.settings import Settings, load_settings, profile_path

ROOT = Path(__file__).parents[3]
SECRET = "postgresql://user:s3cret-word@db.example/scizor"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the tests' own environment counts, nor a `.env` of the repository."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SCIZOR_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_stands_in_the_example_file(name: str) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert any(line.lstrip("# ").startswith(f"SCIZOR_{name.upper()}=") for line in lines)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_described(name: str) -> None:
    assert Settings.model_fields[name].description


def test_with_nothing_set_the_servers_are_embedded_and_everything_is_local(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.database_url, settings.redis_url) == (None, None)
    assert settings.home == tmp_path / ".scizor"
    assert settings.tape_directory == tmp_path / ".scizor" / "tape"
    assert settings.ui_host == "127.0.0.1"


def test_the_environment_goes_before_dotenv_and_dotenv_before_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".scizor"
    home.mkdir()
    profile_path(home).write_text(
        "SCIZOR_UI_PORT=3001\nSCIZOR_SIMULATED_SEED=1\nSCIZOR_WORKER_CONCURRENCY=1\n"
    )
    (tmp_path / ".env").write_text("SCIZOR_UI_PORT=3002\nSCIZOR_SIMULATED_SEED=2\n")
    monkeypatch.setenv("SCIZOR_UI_PORT", "3003")
    settings = load_settings()
    assert (settings.ui_port, settings.simulated_seed, settings.worker_concurrency) == (3003, 2, 1)


def test_the_profile_is_that_of_the_home_that_dotenv_names(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    profile_path(other).write_text("SCIZOR_UI_PORT=3333\n")
    (tmp_path / ".env").write_text("SCIZOR_HOME=other\n")
    assert (load_settings().home, load_settings().ui_port) == (other, 3333)


def test_an_empty_variable_is_an_unset_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "HOME", "UI_PORT", "CHAIN_ASX", "TAPE_DIR"):
        monkeypatch.setenv(f"SCIZOR_{name}", "")
    settings = load_settings()
    assert settings == Settings(home=tmp_path / ".scizor")


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("SCIZOR_UI_PORT", "-1", "greater than or equal to 1"),
        ("SCIZOR_UI_PORT", "70000", "less than or equal to 65535"),
        ("SCIZOR_UI_PORT", "http", "valid integer"),
        ("SCIZOR_WORKER_CONCURRENCY", "0", "greater than or equal to 1"),
        ("SCIZOR_YAHOO_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("SCIZOR_INTRADAY_START", "soon", "date"),
        ("SCIZOR_CHAIN_ASX", "tape,bloomberg", "'bloomberg' is not a provider; known: tape, yahoo"),
        ("SCIZOR_CHAIN_CRYPTO", "mtgox", "'mtgox' is not a provider"),
        ("SCIZOR_ALPACA_REQUESTS_PER_MINUTE", "-1", "greater than 0"),
        ("SCIZOR_SPENDING_CAP_USD", "-5", "greater than or equal to 0"),
        ("SCIZOR_ALPACA_FEED", "otc", "'iex' or 'sip'"),
        ("SCIZOR_PROFILE", "paper", "'live'"),
        ("SCIZOR_YAHOO_BASE_URL", "localhost:8080", "write http://host"),
        ("SCIZOR_KRAKEN_BASE_URL", "ftp://kraken", "write http://host"),
        ("SCIZOR_IBKR_BASE_URL", "http://127.0.0.1:4001", "write tcp://host"),
        ("SCIZOR_IBKR_BASE_URL", "tcp://host:port", "write tcp://host"),
    ],
)
def test_a_value_that_cannot_be_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^A setting cannot be used: {name}: ") as caught:
        load_settings()
    assert part in str(caught.value)


def test_every_mistake_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIZOR_UI_PORT", "-1")
    monkeypatch.setenv("SCIZOR_CHAIN_US", "x")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "SCIZOR_UI_PORT" in str(caught.value)
    assert "SCIZOR_CHAIN_US" in str(caught.value)


def test_a_secret_shows_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIZOR_DATABASE_URL", SECRET)
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(vars(settings))):
        assert "s3cret-word" not in shown


def test_a_secret_shows_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIZOR_DATABASE_URL", SECRET)
    monkeypatch.setenv("SCIZOR_UI_PORT", "-1")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "s3cret-word" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_chain_is_read_in_its_order_whatever_the_blanks_and_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCIZOR_CHAIN_ASX", " Simulated , TAPE,")
    assert load_settings().chain("asx") == ("simulated", "tape")


@pytest.mark.parametrize("market", list(MARKETS))
def test_without_a_setting_a_market_has_its_own_chain(market: str) -> None:
    assert load_settings().chain(market) == MARKETS[market].default_chain


def test_each_market_s_chain_has_a_setting_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for market in MARKETS:
        monkeypatch.setenv(f"SCIZOR_CHAIN_{market.upper()}", "simulated")
    assert {load_settings().chain(market) for market in MARKETS} == {("simulated",)}


def test_the_tape_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIZOR_TAPE_DIR", "my tape")
    assert load_settings().tape_directory == tmp_path / "my tape"


def test_the_live_profile_asks_keyless_providers_whatever_the_demo_has_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile_path(tmp_path).write_text("SCIZOR_CHAIN_ASX=tape,simulated\n")
    monkeypatch.setenv("SCIZOR_HOME", str(tmp_path))
    monkeypatch.setenv("SCIZOR_PROFILE", "live")

    settings = load_settings()

    assert settings.chain("asx") == ("tape", "yahoo")
    assert settings.chain("crypto") == ("tape", "kraken", "coinbase")


def test_a_chain_that_the_user_sets_goes_before_the_live_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCIZOR_PROFILE", "live")
    monkeypatch.setenv("SCIZOR_CHAIN_US", "finnhub")

    assert load_settings().chain("us") == ("finnhub",)


def test_a_child_process_reads_the_same_settings_from_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(
        "SCIZOR_CHAIN_US=tape, yahoo\nSCIZOR_ALPACA_SECRET=hush\nSCIZOR_UI_PORT=3456\n"
        "SCIZOR_DAILY_START=1999-02-03\n"
    )
    settings = load_settings()
    Path(".env").unlink()
    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)

    assert load_settings() == settings


@pytest.mark.parametrize("given", ["127.0.0.1:4002", "tcp://127.0.0.1:4002"])
def test_a_gateway_may_be_given_without_the_scheme(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIZOR_IBKR_BASE_URL", given)

    assert load_settings().ibkr_base_url == "tcp://127.0.0.1:4002"
