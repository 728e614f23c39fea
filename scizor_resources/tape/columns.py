"""Which column of a file is which field: guessed from its header, or as the user says."""

import re
from collections.abc import Mapping

from scizor_core.errors import InvalidInputError

#: field -> names a column may have, best first; compared in lower case with "_" between words.
_TIME_ALIASES = (
    "ts",
    "timestamp",
    "datetime",
    "date_time",
    "date",
    "time",
    "open_time",
    "opentime",
    "t",
    "exchange_timestamp",
    "exchange_time",
    "index_level_0",
)
_BAR_ALIASES: dict[str, tuple[str, ...]] = {
    "ts": _TIME_ALIASES,
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "high_price"),
    "low": ("low", "l", "low_price"),
    "close": ("close", "c", "close_price"),
    "volume": ("volume", "vol", "v"),
    "vwap": ("vwap", "vw", "wap"),
    "trade_count": ("trade_count", "trades", "number_of_trades", "num_trades", "n"),
    "adj_close": ("adj_close", "adjclose", "adjusted_close"),
}
_TICK_ALIASES: dict[str, tuple[str, ...]] = {
    "ts": _TIME_ALIASES,
    "price": ("price", "p", "trade_price"),
    "size": ("size", "qty", "quantity", "amount", "volume", "vol", "s"),
    "trade_id": ("trade_id", "tradeid", "id", "tid"),
}
_OPTIONAL = frozenset({"vwap", "trade_count", "adj_close", "trade_id"})
_SYMBOL_FIELD = "symbol"


def parse_columns(text: str) -> dict[str, str]:
    """Return `{"ts": "Date", "open": "Open"}` for "ts=Date,open=Open".

    Raises:
        InvalidInputError: a part is not of the form field=column, or a field comes twice.
    """
    columns: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        field, equals, name = (piece.strip() for piece in part.partition("="))
        if not (field and equals and name):
            raise InvalidInputError(
                f"'{part}' does not name a column: write field=column, for example ts=Date."
            )
        if field in columns:
            raise InvalidInputError(f"The field '{field}' is named twice in the columns '{text}'.")
        columns[field] = name
    return columns


def resolve_columns(
    names: tuple[str, ...], origin: str, timeframe: str, given: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return field -> column for a file, and sentences on choices that were made.

    Args:
        names: the file's column names.
        origin: the file's name, for messages.
        timeframe: "tick" for trades, else bars.
        given: field -> column as the user says; the rest is guessed. The field "symbol" picks the
            rows of one symbol. "ts" may be two columns, "Date+Time".

    Raises:
        InvalidInputError: a field is unknown, a column is not there or cannot be guessed.
    """
    aliases = _TICK_ALIASES if timeframe == "tick" else _BAR_ALIASES
    present = {name.casefold(): name for name in names if name}
    columns: dict[str, str] = {}
    for field, wanted in given.items():
        if field not in aliases and field != _SYMBOL_FIELD:
            raise InvalidInputError(
                f"'{field}' is not a field of {_kind(timeframe)}. Fields: "
                f"{', '.join((*aliases, _SYMBOL_FIELD))}."
            )
        columns[field] = _given_column(field, wanted, present, origin)
    notes = []
    known = {_folded(name): name for name in names if name}
    for field, candidates in aliases.items():
        found = [known[alias] for alias in candidates if alias in known]
        if field in columns or not found:
            continue
        columns[field] = found[0]
        others = [name for name in found[1:] if not _is_time_of_day(field, found[0], name)]
        if others:
            notes.append(
                f"{_label(field)} was read from '{found[0]}', not from "
                f"{' or '.join(repr(name) for name in others)}"
            )
    missing = [field for field in aliases if field not in columns and field not in _OPTIONAL]
    if missing:
        example = ",".join(f"{field}=..." for field in missing)
        raise InvalidInputError(
            f"{origin} has no column for {', '.join(missing)}; its columns are "
            f'{", ".join(names)}. Name them with columns "{example}".'
        )
    return columns, tuple(notes)


def _given_column(field: str, wanted: str, present: dict[str, str], origin: str) -> str:
    if wanted.casefold() in present:
        return present[wanted.casefold()]
    parts = [part.strip().casefold() for part in wanted.split("+")]
    if field == "ts" and len(parts) == 2 and all(part in present for part in parts):
        return "+".join(present[part] for part in parts)
    raise InvalidInputError(
        f"{origin} has no column '{wanted}' (for {field}); its columns are "
        f"{', '.join(present.values())}."
    )


def _is_time_of_day(field: str, first: str, other: str) -> bool:
    return field == "ts" and (_folded(first), _folded(other)) == ("date", "time")


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")


def _label(field: str) -> str:
    return "the time" if field == "ts" else field


def _kind(timeframe: str) -> str:
    return "a trade" if timeframe == "tick" else "a bar"
