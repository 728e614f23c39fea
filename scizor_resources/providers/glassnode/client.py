"""`GlassnodeMetrics`: metrics of coins by the interval.

Several assets come by one bulk call where Glassnode has one for the metric, else by a call each.
A bulk call costs the credits of its assets together and spans a month at most.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

from pydantic import SecretStr

from scizor_core.errors import ContractError, InvalidInputError
from scizor_resources.errors import AuthError, BadRequest, ProviderError
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.glassnode.series import (
    SOURCE_NAME,
    Asked,
    ParsedSeries,
    has_more_dimensions,
    parse_bulk,
    parse_points,
)
from scizor_resources.providers.metrics import (
    MetricBatch,
    explained,
    meets_all,
    metrics_api,
)

BASE_URL = "https://api.glassnode.com"
TITLE = "Glassnode"
_PATH = "/v1/metrics"
_FORBIDDEN = 403
_ADVICE = (
    "Ask for fewer metrics or assets (SCIZOR_GLASSNODE_METRICS, SCIZOR_GLASSNODE_ASSETS), raise "
    "the plan, or wait until the quota is renewed."
)

#: Days that one bulk call may span, by resolution; what can be asked for at all.
BULK_DAYS: dict[str, int] = {"10m": 10, "1h": 10, "24h": 31}


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


@dataclass(frozen=True)
class _Window:
    """What all series of a fetch have in common; half open, UTC."""

    start: datetime
    end: datetime
    resolution: str

    def pieces(self) -> Iterator["_Window"]:
        """Yield windows that one bulk call can span."""
        start = self.start
        while start < self.end:
            end = min(self.end, start + timedelta(days=BULK_DAYS[self.resolution]))
            yield _Window(start, end, self.resolution)
            start = end

    def query(self) -> dict[str, str | int]:
        return {
            "s": int(self.start.timestamp()),
            "u": int(self.end.timestamp()),
            "i": self.resolution,
            "f": "JSON",
            "timestamp_format": "unix",
        }


@dataclass
class _Harvest:
    """What has come so far.

    Attributes:
        batch: what will be returned.
        parsed: values and refused points of all series.
        refusal: an error that would meet every further call.
    """

    batch: MetricBatch = field(default_factory=MetricBatch)
    parsed: ParsedSeries = field(default_factory=ParsedSeries)
    refusal: ProviderError | None = None

    def take(self, metric: str, assets: Sequence[str], parsed: ParsedSeries, window: str) -> None:
        present = parsed.assets()
        for asset in assets:
            series, empty = f"{metric} {asset}", parsed.without_value.get(asset, 0)
            if empty:
                self.batch.notes.append(f"{series}: {empty} points without a value")
            if asset not in present:
                refused = sum(row["symbol"] == asset for row in parsed.rejected)
                parts = [f"no value {window}"]
                parts += [f"{empty} points without one"] if empty else []
                parts += [f"{refused} points were refused"] if refused else []
                self.batch.empty_reasons[series] = "; ".join(parts)
        self.parsed.add(parsed)

    def failed(self, metric: str, assets: Sequence[str], error: ProviderError) -> None:
        self.batch.failed([f"{metric} {asset}" for asset in assets], error)
        self.refusal = error if meets_all(error) else None


class GlassnodeMetrics:
    """Metrics of coins.

    Args:
        gate: what every call passes.
        base_url: address; None is the real Glassnode.
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
        #: Metrics that have no bulk call, or none that this key may make.
        self._single: set[str] = set()
        self._api = metrics_api(
            SOURCE_NAME, TITLE, base_url or BASE_URL, gate, timeout_seconds, "X-Api-Key", key
        )

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch(
        self,
        metrics: Sequence[str],
        assets: Sequence[str],
        start: date,
        end: date,
        resolution: str = "24h",
    ) -> MetricBatch:
        """Fetch the values of the intervals that start in the UTC days `start <= day < end`.

        Args:
            metrics: paths below /v1/metrics, "market/mvrv".
            assets: Glassnode's codes, "BTC".
            start: first UTC day.
            end: day after the last one.
            resolution: length of the intervals, one of `BULK_DAYS`.

        Returns:
            One value per metric (or part of one), asset, network and interval. A series that fails
            does not keep the others from being asked, unless the error would meet them too;
            `failure` is the first error.

        Raises:
            InvalidInputError: Glassnode has no such resolution.
            AuthError: there is no key.
            BadRequest: Glassnode has none of the series.
        """
        if resolution not in BULK_DAYS:
            known = ", ".join(BULK_DAYS)
            raise InvalidInputError(f"'{resolution}' is not a resolution. Use one of {known}.")
        if not self._has_key:
            raise AuthError(
                "Glassnode needs a key. Set SCIZOR_GLASSNODE_API_KEY.",
                provider=SOURCE_NAME,
                endpoint=_PATH,
            )
        window = _Window(_midnight(start), _midnight(end), resolution)
        codes = tuple(dict.fromkeys(asset.upper() for asset in assets))
        paths = tuple(dict.fromkeys(metric.strip("/") for metric in metrics))
        harvest = _Harvest()
        for metric in paths:
            if len(codes) > 1 and metric not in self._single and harvest.refusal is None:
                self._fetch_bulk(metric, codes, window, harvest)
            if len(codes) == 1 or metric in self._single or harvest.refusal is not None:
                self._fetch_each(metric, codes, window, harvest)
        batch = harvest.batch
        if batch.unknown and len(batch.unknown) == len(paths) * len(codes):
            raise BadRequest(
                f"Glassnode has nothing of {', '.join(paths)} for {', '.join(codes)}: "
                f"{next(iter(batch.unknown.values()))} Check SCIZOR_GLASSNODE_METRICS and "
                "SCIZOR_GLASSNODE_ASSETS against its catalogue.",
                provider=SOURCE_NAME,
                endpoint=_PATH,
                status=400,
            )
        batch.fill(harvest.parsed.values, harvest.parsed.rejected)
        return batch

    def _fetch_each(
        self, metric: str, assets: Sequence[str], window: _Window, harvest: _Harvest
    ) -> None:
        """Ask for a metric of one asset after the other."""
        for asset in assets:
            if harvest.refusal is not None:
                # What a bulk call has already noted stays as it is.
                harvest.batch.errors.setdefault(f"{metric} {asset}", str(harvest.refusal))
                continue
            try:
                parsed = self._ask(f"{_PATH}/{metric}", metric, (asset,), window, parse_points)
            except BadRequest as error:
                harvest.batch.unknown[f"{metric} {asset}"] = str(error)
            except ProviderError as error:
                harvest.failed(metric, [asset], error)
            else:
                harvest.take(metric, [asset], parsed, _said(window))

    def _fetch_bulk(
        self, metric: str, assets: tuple[str, ...], window: _Window, harvest: _Harvest
    ) -> None:
        """Ask for a metric of all assets at once; note where that cannot be had."""
        parsed = ParsedSeries()
        path = f"{_PATH}/{metric}/bulk"
        try:
            for piece in window.pieces():
                parsed.add(self._ask(path, metric, assets, piece, _parse_plain_bulk))
        except (BadRequest, _MoreDimensions):
            # No bulk for this metric, or one of the assets is unknown: single calls tell.
            self._single.add(metric)
        except ProviderError as error:
            if isinstance(error, AuthError) and not meets_all(error):
                # Smaller plans have the metric, but no bulk calls.
                self._single.add(metric)
            else:
                harvest.failed(metric, assets, error)
        else:
            harvest.take(metric, assets, parsed, _said(window))

    def _ask(
        self,
        path: str,
        metric: str,
        assets: tuple[str, ...],
        window: _Window,
        parse: Callable[[Any, Asked], ParsedSeries],
    ) -> ParsedSeries:
        asked_at = self._now()
        # A list of values repeats the parameter on the wire.
        query = cast("dict[str, str | int]", {"a": list(assets), **window.query()})
        try:
            answer = self._api.get(path, query)
        except ProviderError as error:
            raise explained(error, TITLE, _ADVICE) from None
        asked = Asked(
            metric,
            assets,
            window.resolution,
            path,
            window.start,
            window.end,
            asked_at,
            self._now(),
        )
        try:
            return parse(answer, asked)
        except ContractError as error:
            raise self._api.drift(path, str(error)) from error


class _MoreDimensions(Exception):
    """Rows of a bulk answer differ by more than asset and network."""


def _parse_plain_bulk(answer: Any, asked: Asked) -> ParsedSeries:
    if has_more_dimensions(answer):
        raise _MoreDimensions
    return parse_bulk(answer, asked)


def _said(window: _Window) -> str:
    return f"from {window.start:%Y-%m-%d} to before {window.end:%Y-%m-%d}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
