"""The monthly spending guard: what paid providers cost, and when it is enough.

A month is a calendar month in UTC. What was spent is kept in millionths of a dollar, in Valkey
(whose journal the embedded server writes every second) and in a small file beside it, which is
written at each paid call. The larger of the two counts, so that neither a Valkey that lost its data
nor one that cannot be reached makes the month begin anew.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from scizor_core.errors import ConfigError
from scizor_resources.budget.link import ValkeyAway, ValkeyLink
from scizor_resources.errors import AuthError

DEFAULT_CAP_USD = 100.0
_MICRO = 1_000_000
_KEPT_SECONDS = 400 * 86_400
_LOCK_TIMEOUT_SECONDS = 10.0

_log = logging.getLogger(__name__)

# KEYS: the month. ARGV: what is known besides, what to add to it, the caps, as JSON.
# Returns {refused because of "total" or "provider" or "", then provider and amount in turn}.
_CHARGE = """
local ask = cjson.decode(ARGV[1])
for provider, known in pairs(ask.known) do
  local stored = tonumber(redis.call('HGET', KEYS[1], provider) or '0')
  if known > stored then
    redis.call('HSET', KEYS[1], provider, string.format('%.0f', known))
  end
end
local total, own = 0, 0
local spent = redis.call('HGETALL', KEYS[1])
for i = 1, #spent, 2 do
  total = total + tonumber(spent[i + 1])
  if spent[i] == ask.provider then own = tonumber(spent[i + 1]) end
end
local refused = ''
if ask.amount > 0 then
  if ask.cap and own + ask.amount > ask.cap then refused = 'provider' end
  if total + ask.amount > ask.total then refused = 'total' end
  if refused == '' then
    redis.call('HINCRBY', KEYS[1], ask.provider, string.format('%.0f', ask.amount))
    redis.call('EXPIRE', KEYS[1], ask.kept)
  end
end
local answer = redis.call('HGETALL', KEYS[1])
table.insert(answer, 1, refused)
return answer
"""


@dataclass(frozen=True)
class Price:
    """What a provider costs.

    Attributes:
        per_call_usd: for each call.
        plan_usd: for a month in which it is called at all.
        cap_usd: most to spend on it in a month; None: only the total counts.
    """

    per_call_usd: float = 0.0
    plan_usd: float = 0.0
    cap_usd: float | None = None

    def __post_init__(self) -> None:
        for value in (self.per_call_usd, self.plan_usd, self.cap_usd):
            if value is not None and not 0 <= value < 1_000_000:
                raise ConfigError(f"A price or cap has to be 0 USD or more, not {value}.")

    @property
    def is_free(self) -> bool:
        """Whether there is nothing to guard."""
        return self.per_call_usd == 0 and self.plan_usd == 0


@dataclass
class SpendingGuard:
    """Counts what paid calls of all processes cost, and refuses those beyond the caps.

    Attributes:
        link: the way to Valkey.
        prices: provider -> what it costs; absent = free.
        cap_usd: most to spend in a month on all providers together.
        journal: file that keeps the amounts beside Valkey; None: this process's memory only.
        clock: seconds since 1970.
        prefix: of the keys in Valkey.
    """

    link: ValkeyLink
    prices: Mapping[str, Price] = field(default_factory=dict)
    cap_usd: float = DEFAULT_CAP_USD
    journal: Path | None = None
    clock: Callable[[], float] = time.time
    prefix: str = "scizor:spent"
    _memory: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if not self.cap_usd >= 0:
            raise ConfigError(f"The monthly spending cap has to be 0 USD or more: {self.cap_usd}.")

    def charge(self, provider: str, endpoint: str = "", calls: int = 1) -> None:
        """Count the cost of calls that are about to be made.

        Raises:
            AuthError: it would go beyond a cap; nothing is counted then.
        """
        price = self.prices.get(provider, Price())
        if price.is_free or calls < 1:
            return
        refused, spent = self._book(provider, price, calls)
        if not refused:
            return
        month = self._month()
        if refused == "provider":
            cap, used, of = price.cap_usd or 0.0, spent.get(provider, 0), f" for {provider}"
        else:
            cap, used, of = self.cap_usd, sum(spent.values()), ""
        raise AuthError(
            f"{provider} is not called: {used / _MICRO:,.2f} of {cap:,.2f} USD{of} are spent in "
            f"{month} (UTC) and the next call costs {self._cost(price, calls, spent, provider):g} "
            "USD. Raise the spending cap in the settings, or wait for the next month.",
            provider=provider,
            endpoint=endpoint,
        )

    def spent(self) -> dict[str, float]:
        """Return provider -> USD spent this month."""
        _, spent = self._book("", Price(), 0)
        return {provider: micros / _MICRO for provider, micros in sorted(spent.items())}

    def _month(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m")

    def _cost(self, price: Price, calls: int, spent: Mapping[str, int], provider: str) -> float:
        plan = price.plan_usd if spent.get(provider, 0) == 0 else 0.0
        return calls * price.per_call_usd + plan

    def _book(self, provider: str, price: Price, calls: int) -> tuple[str, dict[str, int]]:
        month = self._month()
        with self._lock:
            if self.journal is None:
                return self._book_with(month, provider, price, calls, self._memory)
            with _locked(self.journal) as is_ours:
                self._memory = _larger(self._memory, _read(self.journal))
                before = json.dumps(self._memory)
                answer = self._book_with(month, provider, price, calls, self._memory)
                if is_ours and json.dumps(self._memory) != before:
                    _write(self.journal, self._memory)
                return answer

    def _book_with(
        self,
        month: str,
        provider: str,
        price: Price,
        calls: int,
        months: dict[str, dict[str, int]],
    ) -> tuple[str, dict[str, int]]:
        known = months.get(month, {})
        if calls and price.plan_usd and not known.get(provider):
            # Another machine may have begun the month's plan.
            known = self._from_valkey(month, "", 0, price, known)[1]
        amount = round(self._cost(price, calls, known, provider) * _MICRO) if calls else 0
        refused, spent = self._from_valkey(month, provider, amount, price, known)
        if spent:
            months[month] = spent
        return refused, spent

    def _from_valkey(
        self, month: str, provider: str, amount: int, price: Price, known: dict[str, int]
    ) -> tuple[str, dict[str, int]]:
        caps = {} if price.cap_usd is None else {"cap": round(price.cap_usd * _MICRO)}
        ask = {
            "known": known,
            "provider": provider,
            "amount": amount,
            "total": round(self.cap_usd * _MICRO),
            "kept": _KEPT_SECONDS,
            **caps,
        }
        try:
            found = self.link.run(_CHARGE, [f"{self.prefix}:{month}"], json.dumps(ask))
        except ValkeyAway:
            return self._alone(provider, amount, price, known)
        return str(found[0]), {
            name: int(value) for name, value in zip(found[1::2], found[2::2], strict=True)
        }

    def _alone(
        self, provider: str, amount: int, price: Price, known: dict[str, int]
    ) -> tuple[str, dict[str, int]]:
        own = known.get(provider, 0) + amount
        if amount and sum(known.values()) + amount > round(self.cap_usd * _MICRO):
            return "total", known
        if amount and price.cap_usd is not None and own > round(price.cap_usd * _MICRO):
            return "provider", known
        return "", {**known, provider: own} if amount else known


@contextmanager
def _locked(journal: Path) -> Iterator[bool]:
    """Hold the file for this process; give False where that is not possible.

    The file is the second of two places: a full disk is no reason to stop calls.
    """
    lock = FileLock(f"{journal}.lock", timeout=_LOCK_TIMEOUT_SECONDS)
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        _log.warning("The spending file %s cannot be used: %s", journal, error)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _write(journal: Path, months: Mapping[str, Mapping[str, int]]) -> None:
    part = journal.with_name(journal.name + ".part")
    try:
        part.write_text(json.dumps(months, sort_keys=True) + "\n")
        part.replace(journal)
    except OSError as error:
        _log.warning("The spending file %s cannot be written: %s", journal, error)


def _larger(
    one: Mapping[str, Mapping[str, int]], other: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Return month -> provider -> the larger amount of the two."""
    return {
        month: {
            name: max(one.get(month, {}).get(name, 0), other.get(month, {}).get(name, 0))
            for name in {**one.get(month, {}), **other.get(month, {})}
        }
        for month in sorted({*one, *other})
    }


def _read(journal: Path) -> dict[str, dict[str, int]]:
    """Return month -> provider -> millionths of a dollar; nothing where the file cannot be read."""
    try:
        found = json.loads(journal.read_text())
        return {
            str(month): {str(name): int(value) for name, value in amounts.items()}
            for month, amounts in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
