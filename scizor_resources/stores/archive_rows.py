"""Rows of the archive's files: compared bit by bit, and merged with late ones."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from scizor_resources.stores.archive_files import SCHEMA


def first_difference(left: Iterator[pa.Table], right: Iterator[pa.Table]) -> str | None:
    """Return where two sequences of rows (columns `SCHEMA`) differ, None where they do not.

    Every column counts bit by bit: NULL is not NaN, and 0 is not -0. The symbol does not count:
    an instrument may have got another code since.
    """
    columns = [name for name in SCHEMA.names if name != "symbol"]
    ours, theirs = SCHEMA.empty_table(), SCHEMA.empty_table()
    seen = 0
    while True:
        ours = ours if len(ours) else next((each for each in left if len(each)), ours)
        theirs = theirs if len(theirs) else next((each for each in right if len(each)), theirs)
        count = min(len(ours), len(theirs))
        if not count:
            if len(ours) or len(theirs):
                return f"one has more than {seen} rows"
            return None
        for name in columns:
            if not _bits(ours[name].slice(0, count)).equals(_bits(theirs[name].slice(0, count))):
                return f"column {name} differs within rows {seen} to {seen + count}"
        ours, theirs, seen = ours.slice(count), theirs.slice(count), seen + count


def _bits(column: pa.ChunkedArray) -> pa.Array:
    """Return a column so that only equal bits are equal."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    return whole.view(pa.int64()) if pa.types.is_float64(whole.type) else whole


def overlay(tables: Iterator[pa.Table], late: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of a file with late ones among them; of a bar in both, the late one.

    Args:
        tables: whole instruments each, columns `SCHEMA`, ascending by instrument and ts.
        late: columns `SCHEMA`, in the same order.
    """
    ids = late["instrument_id"].to_numpy()
    taken = 0
    for table in tables:
        until = int(np.searchsorted(ids, table["instrument_id"][-1].as_py(), side="right"))
        yield _merged(late.slice(taken, until - taken), table)
        taken = until
    if taken < len(late):
        yield late.slice(taken)


def _merged(late: pa.Table, table: pa.Table) -> pa.Table:
    if not len(late):
        return table
    both = pa.concat_tables([late, table])
    ids, ts = both["instrument_id"].to_numpy(), both["ts"].cast(pa.int64()).to_numpy()
    order = np.lexsort((ts, ids))
    ids, ts = ids[order], ts[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = (ids[1:] != ids[:-1]) | (ts[1:] != ts[:-1])
    return both.take(pa.array(order[is_first]))
