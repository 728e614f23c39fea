"""Alembic's entry point; the connection comes from `scizor_resources.stores.schema`."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="scizor_schema_version",
    version_table_schema="public",
)
with context.begin_transaction():
    context.run_migrations()
