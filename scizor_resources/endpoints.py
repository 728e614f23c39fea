"""Where PostgreSQL and Valkey are, in the spelling that each client library wants."""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import sqlalchemy as sa

from scizor_core.errors import ConfigError

#: Dagster's own tables live in this schema of the same database.
DAGSTER_SCHEMA = "dagster"


@dataclass(frozen=True, repr=False)
class Endpoints:
    """The two servers by URL.

    Args:
        database_url: any PostgreSQL URL; a driver in it is ignored.
        redis_url: `redis://`, `rediss://` or `unix://` URL of Valkey or Redis.
    """

    database_url: str
    redis_url: str

    def __post_init__(self) -> None:
        self._parsed()
        if urlsplit(self.redis_url).scheme not in ("redis", "rediss", "unix"):
            raise ConfigError(
                "SCIZOR_REDIS_URL has to begin with redis://, rediss:// or unix://, for example "
                "redis://127.0.0.1:6379/0."
            )

    def __repr__(self) -> str:
        return f"Endpoints({self.shown})"

    def _parsed(self) -> sa.URL:
        try:
            url = sa.make_url(self.database_url)
        except (sa.exc.ArgumentError, ValueError):
            url = None
        if url is None or url.get_backend_name() not in ("postgresql", "postgres"):
            raise ConfigError(
                "SCIZOR_DATABASE_URL is not a PostgreSQL URL, for example "
                "postgresql://user:password@127.0.0.1:5432/scizor."
            )
        # libpq takes a password from the query too, where nothing would hide it.
        password = url.query.get("password")
        if isinstance(password, str):
            url = url.difference_update_query(["password"]).set(password=password)
        return url

    @property
    def shown(self) -> str:
        """The database without its password, for people."""
        return self._parsed().set(drivername="postgresql").render_as_string(hide_password=True)

    def _database(self, driver: str) -> str:
        return _render(self._parsed().set(drivername=driver))

    @property
    def libpq_url(self) -> str:
        """For psycopg and ADBC."""
        return self._database("postgresql")

    @property
    def sqlalchemy_url(self) -> str:
        """For SQLAlchemy with psycopg 3, the driver always written out."""
        return self._database("postgresql+psycopg")

    @property
    def dagster_url(self) -> str:
        """For dagster-postgres, which needs psycopg2, in a schema of its own."""
        url = self._parsed().set(drivername="postgresql+psycopg2")
        given = url.query.get("options", ())
        chosen = [given] if isinstance(given, str) else list(given)
        options = " ".join([*chosen, f"-csearch_path={DAGSTER_SCHEMA}"])
        return _render(url.update_query_dict({"options": options}))

    @property
    def broker_url(self) -> str:
        """For Celery, as broker and as result backend."""
        parts = urlsplit(self.redis_url)
        if parts.scheme != "unix":
            return self.redis_url
        database = parse_qs(parts.query).get("db", ["0"])[0]
        return f"redis+socket://{parts.path}?virtual_host={database}"

    @property
    def dbt_environment(self) -> dict[str, str]:
        """The variables that dbt_project/profiles.yml reads."""
        url = self._parsed()
        host, port = url.query.get("host", url.host), url.query.get("port", url.port)
        values = {
            "SCIZOR_DBT_HOST": host or "127.0.0.1",
            "SCIZOR_DBT_PORT": port or 5432,
            "SCIZOR_DBT_USER": url.username or "scizor",
            "SCIZOR_DBT_PASSWORD": url.password or "",
            "SCIZOR_DBT_DBNAME": url.database or "scizor",
        }
        return {name: str(value) for name, value in values.items()}

    @property
    def environment(self) -> dict[str, str]:
        """What a child process needs to use the same servers."""
        return {
            "SCIZOR_DATABASE_URL": self.libpq_url,
            "SCIZOR_REDIS_URL": self.redis_url,
            "SCIZOR_DAGSTER_DATABASE_URL": self.dagster_url,
            "SCIZOR_BROKER_URL": self.broker_url,
            **self.dbt_environment,
        }


def _render(url: sa.URL) -> str:
    """Return the URL with every special character as %XX.

    SQLAlchemy writes blanks as they are, and as "+" in the query; libpq refuses the first and takes
    the second for a plus sign.
    """
    user = quote(url.username or "", safe="")
    password = "" if url.password is None else ":" + quote(str(url.password), safe="")
    host = url.host or ""
    place = f"[{host}]" if ":" in host else quote(host, safe=",")
    port = "" if url.port is None else f":{url.port}"
    pairs = [
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, values in url.query.items()
        for value in ((values,) if isinstance(values, str) else values)
    ]
    login = f"{user}{password}@" if user or password else ""
    path = "" if url.database is None else "/" + quote(url.database, safe="")
    query = "?" + "&".join(pairs) if pairs else ""
    return f"{url.drivername}://{login}{place}{port}{path}{query}"
