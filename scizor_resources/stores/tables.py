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
        lock: number under which writers of the same month of this table take turns.
        revisions: table that keeps the old values of a changed row, None where none is kept.
        tolerances: column -> SQL of the scale (of stored row `{old}`) below 1e-9 of which two
            values count as equal. Derived values carry rounding of the order 1e-13 that depends on
            how many sessions one run computes; a rerun must not rewrite rows for that.
    """

    name: str
    key: tuple[str, ...]
    arrow_schema: pa.Schema
    stamp: str
    lock: int
    revisions: str | None = None
    tolerances: dict[str, str] = field(default_factory=dict)

    @property
    def staging(self) -> str:
        """Name of the temporary table that a merge puts its rows into."""
        return f"staging_{self.name}"

    @property
    def pending(self) -> str:
        """Name of the temporary table of the staged rows that are new or differ."""
        return f"pending_{self.name}"

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that are no key."""
        return tuple(name for name in self.arrow_schema.names if name not in self.key)


@dataclass(frozen=True)
class MergeStatements:
    """The SQL of one merge, in order of use.

    `classify_by_key`, `keep` and `change` take as parameters the first and last ts of the rows, so
    that only the partitions concerned are read; `classify` takes the timeframes and instruments
    of the rows too.

    Attributes:
        create: makes the two temporary tables, once for each connection.
        classify: picks from the staged rows those that are new or differ; reads all that is
            stored of these instruments in the range, whatever the planner believes.
        classify_by_key: the same; for few rows, which may lie far apart.
        count: answers how many of them are to change, are protected, are new.
        keep: keeps the old values of the rows that are to change; empty where none are kept.
        change: updates them.
        insert: inserts the new ones.
    """

    create: tuple[str, str]
    classify: str
    classify_by_key: str
    count: str
    keep: str
    change: str
    insert: str


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
    lock=7_249_003,
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
    lock=7_249_004,
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
    """Return the statements that merge the staged rows into `table`.

    Simulated rows never replace real ones. The caller holds the locks of the months concerned,
    so no other writer comes between the statements.
    """
    target, staging = f"market.{table.name}", f"pg_temp.{table.staging}"
    pending = f"pg_temp.{table.pending}"
    columns = ", ".join(table.arrow_schema.names)
    match = " AND ".join(f"t.{column} = s.{column}" for column in table.key)
    # Not the instruments here: PostgreSQL 18 puts `= ANY` beside the key's `=` into one index scan,
    # which then walks the whole partition for each row (268 s instead of 0.2 s, measured).
    bounds = "t.ts BETWEEN %s AND %s"
    # OFFSET 0 keeps the planner from looking rows up one by one.
    in_range = (
        f"(SELECT {columns} FROM {target} WHERE ts BETWEEN %s AND %s "  # noqa: S608  # names are constants of this module
        "AND timeframe = ANY(%s) AND instrument_id = ANY(%s) OFFSET 0)"
    )
    replaced = "s.is_stored AND NOT s.is_protected"
    protected = "(s.source LIKE 'simulated%%' AND t.source NOT LIKE 'simulated%%')"
    keep = ""
    if table.revisions is not None:
        names = [*(n for n in table.arrow_schema.names if n != "session_date"), table.stamp]
        keep = (
            f"INSERT INTO market.{table.revisions} ({', '.join(names)}, superseded_by) "  # noqa: S608  # names are constants of this module
            f"SELECT {', '.join(f't.{name}' for name in names)}, s.source "
            f"FROM {target} AS t JOIN {pending} AS s ON {match} "
            f"WHERE {bounds} AND {replaced} FOR UPDATE OF t"
        )
    classify = (
        f"INSERT INTO {pending} SELECT s.*, t.ts IS NOT NULL, t.ts IS NOT NULL AND {protected} "  # noqa: S608
        f"FROM {staging} AS s LEFT JOIN {{}} WHERE t.ts IS NULL OR {_differs(table)}"
    )
    return MergeStatements(
        create=(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {table.staging} ON COMMIT DELETE ROWS AS "  # noqa: S608
            f"SELECT {columns} FROM {target} WITH NO DATA",
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {table.pending} ON COMMIT DELETE ROWS AS "  # noqa: S608
            f"SELECT {columns}, true AS is_stored, true AS is_protected "
            f"FROM {target} WITH NO DATA",
        ),
        classify=classify.format(f"{in_range} AS t ON {match}"),
        classify_by_key=classify.format(f"{target} AS t ON {match} AND {bounds}"),
        count=(
            f"SELECT count(*) FILTER (WHERE {replaced}) AS changed, "  # noqa: S608
            "count(*) FILTER (WHERE s.is_protected) AS protected, "
            f"count(*) FILTER (WHERE NOT s.is_stored) AS inserted FROM {pending} AS s"
        ),
        keep=keep,
        change=(
            f"UPDATE {target} AS t SET "  # noqa: S608
            f"{', '.join(f'{column} = s.{column}' for column in table.values)}, "
            f"{table.stamp} = now() FROM {pending} AS s WHERE {match} AND {bounds} AND {replaced}"
        ),
        insert=(
            f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {pending} AS s "  # noqa: S608
            f"WHERE NOT s.is_stored ORDER BY {', '.join(table.key)}"
        ),
    )


def _differs(table: TableSpec) -> str:
    """Return SQL that is true where staged row `s` is not what is stored in `t`."""
    exact = [column for column in table.values if column not in table.tolerances]
    before = ", ".join(f"t.{column}" for column in exact)
    after = ", ".join(f"s.{column}" for column in exact)
    near = "".join(
        f" OR (t.{column} IS NULL) <> (s.{column} IS NULL) OR "
        f"abs(t.{column} - s.{column}) > 1e-9 * {scale.format(old='t')}"
        for column, scale in table.tolerances.items()
    )
    return f"(({before}) IS DISTINCT FROM ({after}){near})"
