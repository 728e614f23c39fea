"""Run one query that may read and nothing else, and hand its rows on as they come.

The transaction is read-only, the statement has a time limit, and the extended protocol makes the
server itself refuse a second statement.
"""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg.rows import tuple_row

from scizor_core.errors import InvalidInputError
from scizor_resources.errors import WarehouseError
from scizor_resources.stores.warehouse import Warehouse

DEFAULT_TIMEOUT_SECONDS = 60.0
CHUNK_ROWS = 1000

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """An answer that is still arriving.

    Attributes:
        columns: names in order; one that comes again gets a number, `a` and `a_2`.
        type_ids: PostgreSQL's type of each column.
        rows: the rows, once.
    """

    columns: tuple[str, ...]
    type_ids: tuple[int, ...]
    rows: Iterator[Row]


class QueryError(WarehouseError):
    """PostgreSQL did not accept a query of the user; the message says what and where."""


@contextmanager
def open_query(
    warehouse: Warehouse, sql: str, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> Iterator[Answer]:
    """Open a query and hand out its answer.

    Args:
        warehouse: where to ask.
        sql: one statement that returns rows.
        timeout_seconds: longest time the server may take; 0 for no limit.

    Raises:
        InvalidInputError: there is no query.
        QueryError: refused, or not done in time.
        WarehouseError: PostgreSQL cannot be reached.
    """
    statement = sql.strip().rstrip(";").strip()
    if not statement:
        raise InvalidInputError(
            'The query is empty: write one SELECT, for example "SELECT * FROM asx.bars_1d LIMIT 5".'
        )
    try:
        with warehouse.connect() as connection:
            connection.read_only = True
            # The limit is set by a query: once a transaction has read, nothing in it can make it
            # writable again.
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true)",
                [str(round(timeout_seconds * 1000))],
            )
            columns, type_ids = _describe(connection, statement)
            with connection.cursor(row_factory=tuple_row) as cursor:
                # psycopg takes literals only, against injection; this text is the user's own.
                stream = cast("Generator[Row]", cursor.stream(statement.encode(), size=CHUNK_ROWS))
                with closing(stream) as rows:
                    yield Answer(columns, type_ids, rows)
    except psycopg.Error as error:
        raise QueryError(_sentence(error, statement, timeout_seconds)) from error


def _describe(
    connection: psycopg.Connection[dict[str, Any]], statement: str
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and types of the columns; nothing is executed yet."""
    for result in (
        connection.pgconn.prepare(b"", statement.encode()),
        connection.pgconn.describe_prepared(b""),
    ):
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)
    if not result.nfields:
        raise InvalidInputError(
            "Queries may only read: this statement returns no rows. Write a SELECT."
        )
    names: list[str] = []
    for index in range(result.nfields):
        name = (result.fname(index) or b"").decode()
        before = sum(known == name or known.startswith(f"{name}_") for known in names)
        names.append(name if name not in names else f"{name}_{before + 1}")
    return tuple(names), tuple(result.ftype(index) for index in range(result.nfields))


def _sentence(error: psycopg.Error, statement: str, timeout_seconds: float) -> str:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return (
            f"The query was stopped after {timeout_seconds:g} s. Narrow it, for example by "
            "session_date, or allow more time with --timeout."
        )
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return "Queries may only read: PostgreSQL refused to change anything."
    message = error.diag.message_primary or str(error).strip().splitlines()[0]
    if "multiple commands" in message:
        return "Only one statement at a time: PostgreSQL refused the second one."
    parts = [f"PostgreSQL refused the query: {message}{_place(error, statement)}."]
    parts += [f"{text}." for text in (error.diag.message_detail, _hint(error)) if text]
    return " ".join(part.replace("..", ".") for part in parts)


def _hint(error: psycopg.Error) -> str:
    return f"Hint: {error.diag.message_hint.rstrip('.')}" if error.diag.message_hint else ""


def _place(error: psycopg.Error, statement: str) -> str:
    """Return " (line 1, column 15)" where the server says so."""
    position = error.diag.statement_position
    if position is None or not position.isdigit():
        return ""
    before = statement[: int(position) - 1]
    return f" (line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))})"
