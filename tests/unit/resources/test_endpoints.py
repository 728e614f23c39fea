"""Endpoints: one URL in the spelling that each library wants, and never the password to people."""

from urllib.parse import parse_qs, unquote, urlsplit

import psycopg.conninfo
import pytest
import sqlalchemy as sa

from scizor_core.errors import ConfigError
from scizor_resources.endpoints import Endpoints

REDIS = "redis://127.0.0.1:6379/0"
PASSWORD = "p@ss/w:rd?#%&=+ é"
ENCODED = "p%40ss%2Fw%3Ard%3F%23%25%26%3D%2B%20%C3%A9"
TCP = f"postgresql://scizor:{ENCODED}@db.example:5433/market"
SOCKET = f"postgresql://scizor:{ENCODED}@/market?host=%2Frun%2Fmy%20sockets&port=5499"


@pytest.mark.parametrize("given", [TCP, SOCKET], ids=["tcp", "socket"])
def test_libpq_is_told_the_same_place_and_the_whole_password(given: str) -> None:
    told = psycopg.conninfo.conninfo_to_dict(Endpoints(given, REDIS).libpq_url)
    assert (told["user"], told["password"], told["dbname"]) == ("scizor", PASSWORD, "market")
    place = (told["host"], str(told["port"]))
    assert place == (("db.example", "5433") if given == TCP else ("/run/my sockets", "5499"))


@pytest.mark.parametrize(
    ("attribute", "driver"),
    [("sqlalchemy_url", "postgresql+psycopg"), ("dagster_url", "postgresql+psycopg2")],
)
@pytest.mark.parametrize("given", [TCP, SOCKET], ids=["tcp", "socket"])
def test_sqlalchemy_is_told_the_driver(given: str, attribute: str, driver: str) -> None:
    url = sa.make_url(getattr(Endpoints(given, REDIS), attribute))
    assert (url.drivername, url.password, url.database) == (driver, PASSWORD, "market")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_driver_in_the_setting_does_not_matter(scheme: str) -> None:
    endpoints = Endpoints(f"{scheme}://u:p@h/d", REDIS)
    assert endpoints.libpq_url == "postgresql://u:p@h/d"
    assert endpoints.sqlalchemy_url == "postgresql+psycopg://u:p@h/d"


def test_an_ipv6_address_keeps_its_brackets() -> None:
    told = psycopg.conninfo.conninfo_to_dict(Endpoints("postgresql://u@[::1]:5/d", REDIS).libpq_url)
    assert (told["host"], told["port"]) == ("::1", "5")


def test_dagster_works_in_a_schema_of_its_own() -> None:
    query = sa.make_url(Endpoints(TCP, REDIS).dagster_url).query
    assert query["options"] == "-csearch_path=dagster"


def test_options_that_were_given_stay() -> None:
    given = TCP + "?options=-cstatement_timeout%3D5000"
    assert sa.make_url(Endpoints(given, REDIS).dagster_url).query["options"] == (
        "-cstatement_timeout=5000 -csearch_path=dagster"
    )


@pytest.mark.parametrize(
    "given",
    [TCP, SOCKET, f"postgresql://scizor@db.example/market?password={ENCODED}"],
    ids=["tcp", "socket", "in the query"],
)
def test_the_password_is_hidden_from_people(given: str) -> None:
    endpoints = Endpoints(given, REDIS)
    for shown in (endpoints.shown, repr(endpoints), str(endpoints)):
        assert ENCODED not in shown
        assert PASSWORD not in unquote(shown)
    assert "market" in endpoints.shown


def test_a_password_in_the_query_still_works() -> None:
    given = f"postgresql://scizor@db.example/market?password={ENCODED}&sslmode=require"
    told = psycopg.conninfo.conninfo_to_dict(Endpoints(given, REDIS).libpq_url)
    assert (told["password"], told["sslmode"]) == (PASSWORD, "require")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:s3cret@host/db",
        "sqlite:///file.db",
        "host.example:5432/db",
        "postgresql://user:s3cret@host:port/db",
        "",
    ],
)
def test_what_is_no_postgresql_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="SCIZOR_DATABASE_URL is not a PostgreSQL URL") as caught:
        Endpoints(url, REDIS)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:6379", "127.0.0.1:6379", "", "amqp://s3cret@h"])
def test_what_is_no_redis_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="SCIZOR_REDIS_URL has to begin with redis://") as caught:
        Endpoints(TCP, url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("redis", "broker"),
    [
        (REDIS, REDIS),
        ("rediss://:pw@h:6380/2", "rediss://:pw@h:6380/2"),
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock?virtual_host=0"),
        ("unix:///run/valkey.sock?db=3", "redis+socket:///run/valkey.sock?virtual_host=3"),
    ],
)
def test_celery_is_told_its_broker(redis: str, broker: str) -> None:
    assert Endpoints(TCP, redis).broker_url == broker


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [(TCP, "db.example", "5433"), (SOCKET, "/run/my sockets", "5499")],
    ids=["tcp", "socket"],
)
def test_dbt_is_told_the_parts(given: str, host: str, port: str) -> None:
    assert Endpoints(given, REDIS).dbt_environment == {
        "SCIZOR_DBT_HOST": host,
        "SCIZOR_DBT_PORT": port,
        "SCIZOR_DBT_USER": "scizor",
        "SCIZOR_DBT_PASSWORD": PASSWORD,
        "SCIZOR_DBT_DBNAME": "market",
    }


def test_a_child_process_that_gets_the_environment_finds_the_same_servers() -> None:
    environment = Endpoints(SOCKET, REDIS).environment
    again = Endpoints(environment["SCIZOR_DATABASE_URL"], environment["SCIZOR_REDIS_URL"])
    assert again.environment == environment
    assert parse_qs(urlsplit(environment["SCIZOR_DATABASE_URL"]).query)["host"] == [
        "/run/my sockets"
    ]
