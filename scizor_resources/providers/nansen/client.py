"""`NansenSmartMoney`: what wallets with a good record hold, buy and sell, by token.

Nansen tells only how it is now. A snapshot belongs to the UTC day on which it was taken and is
never final: each one is kept with the time it was observed, and a day that was missed stays so.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from pydantic import SecretStr

from scizor_core.errors import ContractError
from scizor_resources.errors import AuthError, BadRequest, ProviderError
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.metrics import (
    MetricBatch,
    explained,
    meets_all,
    metrics_api,
)
from scizor_resources.providers.nansen.rows import (
    SOURCE_NAME,
    TABLES,
    Asked,
    ParsedRows,
    Table,
    parse_page,
    parse_rows,
)

BASE_URL = "https://api.nansen.ai/api/v1"
TITLE = "Nansen"
#: Rows of a page; each page costs credits.
PAGE_ROWS = 100
#: Pages of a table that are asked for at most: 10,000 tokens, those with the largest sums.
MOST_PAGES = 100
_ADVICE = (
    "Nothing comes until it is renewed or the plan is raised; fewer chains (SCIZOR_NANSEN_CHAINS) "
    "need less."
)


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class NansenSmartMoney:
    """Net flows and holdings of smart money.

    Args:
        gate: what every call passes.
        base_url: address; None is the real Nansen.
        key: API key.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.

    Attributes:
        gate: as given.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        key: SecretStr | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.gate = gate
        self._now = now
        self._has_key = key is not None
        self._api = metrics_api(
            SOURCE_NAME, TITLE, base_url or BASE_URL, gate, timeout_seconds, "apikey", key
        )

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch(self, chains: Sequence[str], day: date) -> MetricBatch:
        """Take a snapshot of the running UTC day.

        Args:
            chains: Nansen's names, "ethereum".
            day: the UTC day; for another one than today's nothing is asked and nothing comes.

        Returns:
            One value per metric, chain and token, none of them final. A table that fails does not
            keep the other from being asked, unless the error would meet it too; `failure` is the
            first error. What came before a failure is there.

        Raises:
            AuthError: there is no key.
            BadRequest: Nansen has none of the chains.
        """
        batch = MetricBatch()
        today = self._now().astimezone(UTC).date()
        if day != today:
            why = f"Nansen tells only the present: {day} cannot be had on {today} (UTC)"
            batch.empty_reasons = {table.name: why for table in TABLES}
            return batch
        if not self._has_key:
            raise AuthError(
                "Nansen needs a key. Set SCIZOR_NANSEN_API_KEY.",
                provider=SOURCE_NAME,
                endpoint=TABLES[0].path,
            )
        names = tuple(dict.fromkeys(chain.lower() for chain in chains))
        ts = datetime.combine(day, time(), UTC)
        values: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        for table in TABLES if names else ():
            if batch.failure is not None and meets_all(batch.failure):
                batch.errors[table.name] = str(batch.failure)
                continue
            parsed = self._fetch_table(table, names, ts, batch)
            values += parsed.values
            rejected += parsed.rejected
        if batch.unknown and len(batch.unknown) == len(TABLES) * len(names):
            raise BadRequest(
                f"Nansen has nothing of {', '.join(names)}: "
                f"{next(iter(batch.unknown.values()))} Check SCIZOR_NANSEN_CHAINS.",
                provider=SOURCE_NAME,
                endpoint=TABLES[0].path,
                status=400,
            )
        batch.fill(values, rejected)
        return batch

    def _fetch_table(
        self, table: Table, chains: tuple[str, ...], ts: datetime, batch: MetricBatch
    ) -> ParsedRows:
        """Return what a table holds of the chains; note in the batch what it does not."""
        rows: list[Any] = []
        unknown: set[str] = set()
        try:
            self._read_pages(table, chains, rows, batch)
        except BadRequest as error:
            # One chain that Nansen does not know spoils the call for the others.
            unknown = self._read_one_by_one(table, chains, rows, batch, error)
        except ProviderError as error:
            batch.failed([table.name], error)
        asked = Asked(table, ts, self._now())
        try:
            parsed = parse_rows(rows, asked)
        except ContractError as error:
            batch.failed([table.name], self._api.drift(table.path, str(error)))
            return ParsedRows()
        self._note(table, [chain for chain in chains if chain not in unknown], parsed, batch)
        return parsed

    def _read_one_by_one(
        self,
        table: Table,
        chains: tuple[str, ...],
        rows: list[Any],
        batch: MetricBatch,
        refusal: BadRequest,
    ) -> set[str]:
        """Read the chains by a call each; return those that Nansen does not have."""
        if len(chains) == 1:
            batch.unknown[f"{table.name} {chains[0]}"] = str(refusal)
            return set(chains)
        rows.clear()
        unknown: set[str] = set()
        for chain in chains:
            try:
                self._read_pages(table, (chain,), rows, batch)
            except BadRequest as error:
                batch.unknown[f"{table.name} {chain}"] = str(error)
                unknown.add(chain)
            except ProviderError as error:
                batch.failed([f"{table.name} {chain}"], error)
                if meets_all(error):
                    break
        return unknown

    def _read_pages(
        self, table: Table, chains: tuple[str, ...], rows: list[Any], batch: MetricBatch
    ) -> None:
        """Add the rows of all pages to `rows`.

        The order may change between two pages, as the table is live: a token that moves can come
        twice (the later row counts) or be passed over until the next snapshot.
        """
        for number in range(1, MOST_PAGES + 1):
            body = {
                "chains": list(chains),
                "filters": {},
                "order_by": [{"field": table.order_by, "direction": "DESC"}],
                "pagination": {"page": number, "per_page": PAGE_ROWS},
            }
            try:
                page = parse_page(self._api.post(table.path, body))
            except ContractError as error:
                raise self._api.drift(table.path, str(error)) from error
            except ProviderError as error:
                if isinstance(error, BadRequest) and number > 1:
                    batch.capped(f"{table.name}: page {number} cannot be had: {error}")
                    return
                raise explained(error, TITLE, _ADVICE) from None
            rows += page.rows
            if page.is_last:
                return
            if not page.rows:
                batch.capped(f"{table.name}: page {number} is empty, but not the last one")
                return
        batch.capped(f"{table.name}: there are more than {MOST_PAGES} pages")

    @staticmethod
    def _note(table: Table, chains: Sequence[str], parsed: ParsedRows, batch: MetricBatch) -> None:
        for column, count in parsed.without_value.items():
            batch.notes.append(f"{table.name}: {count} rows without a value in {column}")
        if table.name in batch.errors:
            return
        refused = f"; {len(parsed.rejected)} rows were refused" if parsed.rejected else ""
        present = {row["chain"] for row in parsed.values}
        for chain in chains:
            series = f"{table.name} {chain}"
            if chain not in present and series not in batch.errors:
                batch.empty_reasons[series] = f"no token that smart money moved or holds{refused}"
