"""What holds for every source of stories, events and metrics, over its own wire format on loopback.

A lab module that defines `LEDGER_SOURCES` is found by itself.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from scizor_resources.errors import (
    AuthError,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.gate import Gate
from tests.contract import lab as lab_package

from .lab.ledgers import SINCE, UNTIL, Item, LedgerLab, LedgerSource, Outcome
from .lab.server import RETRY_AFTER_SECONDS


def _sources() -> list[LedgerSource]:
    found = []
    for module in pkgutil.iter_modules(lab_package.__path__):
        loaded = importlib.import_module(f"{lab_package.__name__}.{module.name}")
        found += list(getattr(loaded, "LEDGER_SOURCES", ()))
    return sorted(found, key=lambda source: source.name)


SOURCES = _sources()
EVENING = SINCE + timedelta(hours=20)
NAMES = ("JaneTrader_77", "Hannah Bylineson")


class Setting:
    """A source's lab, its gate, and what the gate has waited."""

    def __init__(self, source: LedgerSource, lab: LedgerLab) -> None:
        self.source, self.lab = source, lab
        self.waited: list[float] = []
        self.gate = Gate(source.name, sleep=self.waited.append)

    def ask(self) -> Outcome:
        return self.source.ask(self.lab, self.gate)

    def fails(self) -> ProviderError:
        """Ask, and return the error, raised or noted."""
        try:
            outcome = self.ask()
        except ProviderError as error:
            return error
        assert outcome.failure is not None, f"no error, but {outcome}"
        return outcome.failure

    def put(self, *items: Item) -> None:
        self.lab.items = list(items)


@pytest.fixture(params=SOURCES, ids=lambda source: source.name)
def setting(request: pytest.FixtureRequest) -> Iterator[Setting]:
    source: LedgerSource = request.param
    fault = request.node.get_closest_marker("fault")
    if fault is not None and fault.args[0] in source.skips:
        pytest.skip(f"{source.name}: {source.skips[fault.args[0]]}")
    with source.lab() as running:
        yield Setting(source, running)


def items(count: int, *, first: datetime = SINCE, step: timedelta | None = None) -> list[Item]:
    """Return items with ids 101, 102 ... spread over the window, each with a text of its own."""
    apart = step or (UNTIL - SINCE) / (count + 1)
    return [
        Item(str(101 + n), first + apart * (n + 1), f"Production report number {101 + n}")
        for n in range(count)
    ]


def test_the_ten_sources_of_the_ledgers_are_here() -> None:
    assert {source.name for source in SOURCES} >= {
        "defillama",
        "glassnode",
        "nansen",
        "cryptopanic",
        "newscatcher",
        "finnhub",
        "reddit",
        "x",
        "edgar",
        "coinspot_announcements",
    }


def test_what_the_source_has_arrives(setting: Setting) -> None:
    setting.put(*items(1))
    outcome = setting.ask()
    assert set(outcome.found) == {"101"}
    assert outcome.rejected.empty
    assert outcome.failure is None


def test_asking_again_gives_the_same(setting: Setting) -> None:
    setting.put(*items(1))
    assert setting.ask().found == setting.ask().found


@pytest.mark.fault("rate_limited")
def test_a_refusal_for_too_many_calls_is_waited_out_when_the_wait_is_named(
    setting: Setting,
) -> None:
    setting.put(*items(1))
    setting.lab.inject("rate_limited_retry_after", times=1)
    assert set(setting.ask().found) == {"101"}
    assert setting.waited == [RETRY_AFTER_SECONDS]


@pytest.mark.fault("rate_limited")
def test_too_many_calls_end_as_rate_limited(setting: Setting) -> None:
    setting.put(*items(1))
    setting.lab.inject("rate_limited")
    error = setting.fails()
    assert isinstance(error, RateLimited)
    assert error.status in (403, 418, 429)


@pytest.mark.fault("quota_exhausted")
def test_a_used_up_quota_is_said_and_not_hammered(setting: Setting) -> None:
    setting.put(*items(1))
    setting.lab.quota_exhausted = True
    error = setting.fails()
    assert isinstance(error, RateLimited | AuthError)
    assert len(setting.lab.data_requests) <= 2
    words = ("quota", "plan", "credit", "cap", "limit", "pay")
    assert any(word in str(error).lower() for word in words), str(error)


@pytest.mark.fault("html")
def test_html_in_place_of_data_is_no_empty_answer(setting: Setting) -> None:
    setting.put(*items(1))
    setting.lab.inject("html")
    assert isinstance(setting.fails(), TransientError | AuthError | SchemaDrift)


def test_an_error_of_the_server_is_tried_again(setting: Setting) -> None:
    setting.put(*items(1))
    setting.lab.inject("server_error", times=1)
    assert set(setting.ask().found) == {"101"}


def test_a_body_cut_short_is_tried_again(setting: Setting) -> None:
    setting.put(*items(1))
    setting.lab.inject("cut_body", times=1)
    assert set(setting.ask().found) == {"101"}


def test_silence_ends_as_a_transient_error(setting: Setting) -> None:
    setting.put(*items(1))
    setting.lab.inject("silence")
    assert isinstance(setting.fails(), TransientError)


@pytest.mark.fault("invalid_credentials")
def test_a_wrong_key_is_said_without_the_key(setting: Setting) -> None:
    setting.put(*items(1))
    setting.lab.inject("invalid_credentials")
    error = setting.fails()
    assert isinstance(error, AuthError)
    if setting.source.secret:
        assert setting.source.secret not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.fault("no_match")
def test_no_match_is_an_empty_answer_with_a_reason(setting: Setting) -> None:
    outcome = setting.ask()
    assert outcome.found == {}
    assert outcome.failure is None
    assert outcome.empty_reason


@pytest.mark.fault("capped")
def test_capped_results_are_said(setting: Setting) -> None:
    setting.put(*items(4))
    setting.lab.capped = True
    outcome = setting.ask()
    assert outcome.notes
    assert not outcome.complete


@pytest.mark.fault("pages")
def test_pages_are_read_to_their_end_and_no_further(setting: Setting) -> None:
    setting.put(*items(7))
    setting.lab.page_size = 3
    outcome = setting.ask()
    assert set(outcome.found) == {str(101 + n) for n in range(7)}
    assert len({str(each.query) + str(each.body) for each in setting.lab.data_requests}) <= 12


@pytest.mark.fault("pages")
def test_a_last_page_that_is_full_ends_the_pages(setting: Setting) -> None:
    setting.put(*items(6))
    setting.lab.page_size = 3
    assert len(setting.ask().found) == 6


@pytest.mark.fault("changed_field")
def test_a_field_that_is_called_otherwise_is_drift_and_no_empty_day(setting: Setting) -> None:
    setting.put(*items(2))
    setting.lab.changed_field = True
    error = setting.fails()
    assert isinstance(error, SchemaDrift)
    assert len(setting.lab.data_requests) <= 3


@pytest.mark.fault("deleted")
def test_a_deleted_item_is_not_kept(setting: Setting) -> None:
    first, second = items(2)
    setting.put(first, Item(second.id, second.at, second.text, deleted=True))
    outcome = setting.ask()
    assert set(outcome.found) == {"101"}
    assert "102" in outcome.deleted or outcome.complete


@pytest.mark.fault("impossible_dates")
@pytest.mark.parametrize("at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)])
def test_a_time_that_cannot_be_costs_only_its_own_item(setting: Setting, at: datetime) -> None:
    setting.put(*items(1), Item("999", at, "Quarterly production"))
    outcome = setting.ask()
    assert set(outcome.found) == {"101"}


@pytest.mark.fault("texts")
@pytest.mark.parametrize(
    "text",
    ["Rocket 🚀🌕 to the moon 👩‍🚀", "ارتفاع سعر البيتكوين", "שיא חדש לביטקוין", "株価が上昇"],  # noqa: RUF001
)
def test_texts_of_all_scripts_arrive_whole(setting: Setting, text: str) -> None:
    setting.put(Item("101", EVENING, text))
    assert text in setting.ask().found["101"]


@pytest.mark.fault("long_body")
def test_a_body_of_a_megabyte_is_survived(setting: Setting) -> None:
    setting.put(Item("101", EVENING, "Profit rises. " + "x" * 1_000_000), *items(2)[1:])
    outcome = setting.ask()
    assert "102" in outcome.found
    assert "101" in outcome.found
    assert len(outcome.found["101"]) <= 30_000


@pytest.mark.fault("names")
def test_no_name_of_a_person_comes_back(setting: Setting) -> None:
    handle, byline = NAMES
    setting.put(
        Item("101", EVENING, f"As @{handle} and u/{handle} say: up", author=handle),
        Item("102", EVENING + timedelta(minutes=1), "Shares rise", author=byline),
        Item("103", datetime(1970, 1, 1, tzinfo=UTC), "Too old", author=handle),
    )
    outcome = setting.ask()
    assert set(outcome.found) == {"101", "102"}
    everything = outcome.everything + repr(outcome)
    assert not [name for name in NAMES if name in everything]
