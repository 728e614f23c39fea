"""What the warehouse has to know of each table that takes bulk writes, and its merge statements."""

from dataclasses import dataclass, field

import pyarrow as pa

from scizor_core.indicators import INDICATOR_COLUMNS

_TS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class TableSpec:
    """A table in schema `market` that frames are merged into.

    Attributes:
        name: table name.
        key: primary key columns.
        arrow_schema: columns and wire types of a write.
        stamp: column that says when a row was last written.
        revisions: table that keeps the old values of a changed row, None where none is kept.
        tolerances: column -> SQL of the scale (of stored row `{old}`) below 1e-9 of which two
            values count as equal. Derived values carry rounding of the order 1e-13 that depends on
            how many sessions one run computes; a rerun must not rewrite rows for that.
    """

    name: str
    key: tuple[str, ...]
    arrow_schema: pa.Schema
    stamp: str
    revisions: str | None = None
    tolerances: dict[str, str] = field(default_factory=dict)

    @property
    def staging(self) -> str:
        """Name of the temporary table a write goes through."""
        return f"staging_{self.name}"

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that are no key."""
        return tuple(name for name in self.arrow_schema.names if name not in self.key)


@dataclass(frozen=True)
class MergeStatements:
    """The SQL of one merge; each of `merge` answers one count: changed, protected, written."""

    create_staging: str
    merge: tuple[str, str, str]


#: Columns that live on a scale of 0 to 100, whatever the price.
_OSCILLATORS = frozenset(
    ("rsi_9", "rsi_14", "stoch_k", "stoch_d", "adx_14", "adx_pos_14", "adx_neg_14", "mfi_14")
    + ("bb_width", "bb_percent")
)

BARS = TableSpec(
    name="bars",
    key=("instrument_id", "timeframe", "ts"),
    arrow_schema=pa.schema(
        [
            ("instrument_id", pa.int32()),
            ("timeframe", pa.string()),
            ("ts", _TS),
            ("session_date", pa.date32()),
            ("open", pa.float64()),
            ("high", pa.float64()),
            ("low", pa.float64()),
            ("close", pa.float64()),
            ("volume", pa.float64()),
            ("vwap", pa.float64()),
            ("trade_count", pa.int64()),
            ("adj_close", pa.float64()),
            ("source", pa.string()),
            ("is_final", pa.bool_()),
        ]
    ),
    stamp="ingested_at",
    revisions="bar_revisions",
)

INDICATORS = TableSpec(
    name="indicators",
    key=("instrument_id", "timeframe", "ts"),
    arrow_schema=pa.schema(
        [
            ("instrument_id", pa.int32()),
            ("timeframe", pa.string()),
            ("ts", _TS),
            ("session_date", pa.date32()),
            ("source", pa.string()),
            *((column, pa.float64()) for column in INDICATOR_COLUMNS),
            ("warmup_bars", pa.int32()),
        ]
    ),
    stamp="computed_at",
    tolerances={
        column: "100.0"
        if column in _OSCILLATORS
        else f"greatest(abs({{old}}.{column}), abs({{old}}.ema_12))"
        if column.startswith("macd")
        else f"abs({{old}}.{column})"
        for column in INDICATOR_COLUMNS
    },
)


def merge_statements(table: TableSpec) -> MergeStatements:
    """Return the statements that merge the staging table into `table`.

    Simulated rows never replace real ones. Rows are locked in key order before their old values
    are kept, so that two writers of the same rows cannot record a revision twice.
    """
    target, staging = f"market.{table.name}", f"pg_temp.{table.staging}"
    names = table.arrow_schema.names
    match = " AND ".join(f"t.{column} = s.{column}" for column in table.key)

    def differs(old: str, new: str) -> str:
        exact = [column for column in table.values if column not in table.tolerances]
        before = ", ".join(f"{old}.{column}" for column in exact)
        after = ", ".join(f"{new}.{column}" for column in exact)
        near = "".join(
            f" OR ({old}.{column} IS NULL) <> ({new}.{column} IS NULL) OR "
            f"abs({old}.{column} - {new}.{column}) > 1e-9 * {scale.format(old=old)}"
            for column, scale in table.tolerances.items()
        )
        return f"(({before}) IS DISTINCT FROM ({after}){near})"

    def protected(old: str, new: str) -> str:
        return f"({new}.source LIKE 'simulated%' AND {old}.source NOT LIKE 'simulated%')"

    locked = (
        f"SELECT t.*, s.source AS superseded_by FROM {target} AS t JOIN {staging} AS s ON {match} "  # noqa: S608  # names are constants of this module
        f"WHERE {differs('t', 's')} AND NOT {protected('t', 's')} ORDER BY {', '.join(f't.{k}' for k in table.key)} "
        "FOR UPDATE OF t"
    )
    if table.revisions is None:
        changed = f"WITH old AS ({locked}) SELECT count(*) FROM old"  # noqa: S608
    else:
        kept = ", ".join([*(n for n in names if n != "session_date"), table.stamp])
        changed = (
            f"WITH old AS ({locked}), kept AS (INSERT INTO market.{table.revisions} "  # noqa: S608
            f"({kept}, superseded_by) SELECT {kept}, superseded_by FROM old RETURNING 1) "
            "SELECT count(*) FROM kept"
        )
    columns = ", ".join(names)
    assignments = ", ".join(f"{column} = excluded.{column}" for column in table.values)
    where = differs("stored", "excluded")
    guard = protected("stored", "excluded")
    return MergeStatements(
        create_staging=(
            f"CREATE TEMPORARY TABLE {table.staging} ON COMMIT DROP AS "  # noqa: S608
            f"SELECT {columns} FROM {target} WITH NO DATA"
        ),
        merge=(
            changed,
            f"SELECT count(*) FROM {target} AS t JOIN {staging} AS s ON {match} "  # noqa: S608
            f"WHERE {protected('t', 's')}",
            f"WITH written AS (INSERT INTO {target} AS stored ({columns}) "  # noqa: S608
            f"SELECT {columns} FROM {staging} ORDER BY {', '.join(table.key)} "
            f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {assignments}, "
            f"{table.stamp} = now() WHERE {where} AND NOT {guard} RETURNING 1) "
            "SELECT count(*) FROM written",
        ),
    )
