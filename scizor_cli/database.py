"""`scizor db`: the schema of the database."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

app = typer.Typer(
    help="Look at the database's schema and bring it up to date.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@contextmanager
def _libpq_url() -> Iterator[str]:
    """Yield the database's URL; the embedded server runs meanwhile where none is configured."""
    from scizor_resources.embedded.servers import EmbeddedServers
    from scizor_resources.settings import load_settings

    settings = load_settings()
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
    else:
        with EmbeddedServers(settings.home, valkey=False) as servers:
            yield servers.start().libpq_url


@app.command(epilog="Example:\n\n  scizor db upgrade")
def upgrade() -> None:
    """Apply the migrations that are missing; running it again changes nothing."""
    import sqlalchemy as sa

    from scizor_resources.endpoints import Endpoints
    from scizor_resources.stores import schema
    from scizor_resources.stores.reference import ReferenceStore
    from scizor_resources.stores.warehouse import Warehouse

    with _libpq_url() as url:
        endpoints = Endpoints(url, "redis://127.0.0.1")  # not used here
        engine = sa.create_engine(endpoints.sqlalchemy_url, poolclass=sa.NullPool)
        before, after = schema.upgrade(engine)
        if before == after:
            typer.echo(f"The schema is at revision {after} already; nothing to do.")
            return
        typer.echo(f"The schema went from {before or 'nothing'} to revision {after}.")
        created = ReferenceStore(Warehouse(endpoints.libpq_url)).seed()
        if created:
            typer.echo(f"{created} instruments of the ASX portfolio were added.")


@app.command(epilog="Example:\n\n  scizor db current")
def current() -> None:
    """Show the schema's revision and the one this version of scizor needs."""
    import sqlalchemy as sa

    from scizor_resources.endpoints import Endpoints
    from scizor_resources.stores import schema

    with _libpq_url() as url:
        endpoints = Endpoints(url, "redis://127.0.0.1")  # not used here
        engine = sa.create_engine(endpoints.sqlalchemy_url, poolclass=sa.NullPool)
        found, needed = schema.current_revision(engine), schema.latest_revision()
    typer.echo(f"{endpoints.shown}: revision {found or 'none'}, needed {needed}.")
    if found != needed:
        typer.echo("Run `scizor db upgrade`.")
