"""EdgarFilings against its lab, and filings as events. Payloads are written by hand or recorded."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scizor_core.catalysts import RuleTable
from scizor_core.errors import InvalidInputError
from scizor_core.schemas.catalysts import validate_catalysts
from scizor_core.sessions import get_calendar
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.provider_settings import ProviderSettings
from scizor_resources.providers.base import REJECTED_COLUMNS
from scizor_resources.providers.edgar.client import CompanyFilings, EdgarFilings
from scizor_resources.providers.edgar.collect import collect
from scizor_resources.providers.edgar.events import (
    LEFT_OUT,
    NOT_WATCHED,
    EventBatch,
    events_of,
)
from scizor_resources.providers.edgar.filings import originals, parse_filings, published_at
from scizor_resources.providers.edgar.symbols import to_edgar_ticker
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.catalysts import default_rules
from tests.contract.lab.edgar_server import EdgarLab, arrays, filing
from tests.contract.lab.server import RETRY_AFTER_SECONDS, TransportFault

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
#: The longest wait for an answer, so short that a silent server does not hold the suite up.
TIMEOUT_SECONDS = 1.5
AGENT = "Example Pty Ltd data@example.com"
APPLE = 320193
RULES = RuleTable(rule for rule in default_rules() if rule.source == "edgar")
EARNINGS = filing(3, "8-K", "2026-11-18T16:05:10", items="2.02,9.01", reportDate="2026-11-18")


class Waits:
    """Stands in for `time.sleep`; remembers what it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Pauses:
    """A budget that lets everything through and remembers what pauses were asked for."""

    def __init__(self) -> None:
        self.seconds: list[float | None] = []

    def acquire(self, endpoint: str, *, weight: int = 1, keys: tuple[str, ...] = ()) -> Any:
        return Gate("none").budget.acquire(endpoint, weight=weight, keys=keys)

    def learn(self, headers: Any) -> None:
        """Take no notice."""

    def pause(self, seconds: float | None, why: str) -> None:
        assert why
        self.seconds.append(seconds)


@pytest.fixture
def lab() -> Iterator[EdgarLab]:
    with EdgarLab() as running:
        running.tickers = {"AAPL": APPLE, "BRK-B": 1067983, "BRK-A": 1067983}
        running.filings = {APPLE: [EARNINGS], 1067983: []}
        yield running


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def edgar(lab: EdgarLab, waits: Waits, pauses: Pauses) -> Iterator[EdgarFilings]:
    made = client(lab, Gate("edgar", budget=pauses, sleep=waits))
    yield made
    made.close()


def client(lab: EdgarLab, gate: Gate, user_agent: str = AGENT) -> EdgarFilings:
    return EdgarFilings(
        gate,
        user_agent=user_agent,
        base_url=lab.url,
        www_base_url=lab.url,
        search_base_url=lab.url,
        timeout_seconds=TIMEOUT_SECONDS,
        now=lambda: NOW,
    )


def apple(edgar: EdgarFilings) -> CompanyFilings:
    return edgar.company(APPLE, "AAPL", SINCE, UNTIL)


# --- companies and filings ----------------------------------------------------------------


def test_each_ticker_has_its_company(edgar: EdgarFilings) -> None:
    assert edgar.tickers() == {"AAPL": APPLE, "BRK-B": 1067983, "BRK-A": 1067983}


@pytest.mark.parametrize("symbol", ["BRK.B", "BRK-B", "brk.b"])
def test_a_class_of_shares_is_written_with_a_dash(symbol: str) -> None:
    assert to_edgar_ticker("us", symbol) == "BRK-B"


def test_edgar_serves_one_market() -> None:
    with pytest.raises(InvalidInputError, match="serves market 'us' only"):
        to_edgar_ticker("asx", "CBA")


def test_every_request_says_who_asks(lab: EdgarLab, edgar: EdgarFilings) -> None:
    lab.older["CIK0000320193-submissions-001.json"] = ("2020-01-01", "2026-11-17", [], APPLE)

    edgar.tickers()
    apple(edgar)

    assert [seen.path for seen in lab.requests] == [
        "/files/company_tickers.json",
        "/submissions/CIK0000320193.json",
        "/submissions/CIK0000320193-submissions-001.json",
    ]
    assert {seen.headers["user-agent"] for seen in lab.requests} == {AGENT}


def test_who_asks_does_not_stand_in_the_clients_words(edgar: EdgarFilings) -> None:
    assert "example.com" not in repr(vars(edgar))


def test_a_filing_keeps_filing_date_and_acceptance_apart(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    late = filing(4, "8-K", "2026-11-18T18:30:00", filingDate="2026-11-19", items="1.05")
    lab.filings[APPLE] = [late]

    [found] = apple(edgar).filings

    assert found.filing_date == date(2026, 11, 19)
    assert found.accepted_text == "2026-11-18T18:30:00.000Z"
    assert found.items == ("1.05",)


def test_an_older_file_is_asked_for_only_where_the_window_needs_it(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    old = filing(1, "10-K", "2019-10-31T16:30:00")
    lab.older["CIK0000320193-submissions-001.json"] = ("2015-01-01", "2020-01-01", [old], APPLE)

    assert len(apple(edgar).filings) == 1
    past = edgar.company(
        APPLE, "AAPL", datetime(2019, 10, 1, tzinfo=UTC), datetime(2019, 11, 1, tzinfo=UTC)
    )

    assert [each.form for each in past.filings] == ["8-K", "10-K"]
    assert len(lab.requests) == 3


def test_the_original_of_an_amendment_is_fetched_from_an_older_file(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    original = filing(1, "10-K", "2025-10-31T16:30:00", reportDate="2025-09-30")
    lab.older["CIK0000320193-submissions-001.json"] = (
        "2015-01-01",
        "2025-12-31",
        [original],
        APPLE,
    )
    lab.filings[APPLE] = [filing(5, "10-K/A", "2026-11-18T12:00:00", reportDate="2025-09-30")]

    assert originals(apple(edgar).filings) == {"0000320193-26-000005": "0000320193-26-000001"}


def test_a_filing_in_two_files_is_one_filing(lab: EdgarLab, edgar: EdgarFilings) -> None:
    lab.older["CIK0000320193-submissions-001.json"] = (
        "2015-01-01",
        "2026-11-18",
        [EARNINGS],
        APPLE,
    )
    lab.filings[APPLE] = [EARNINGS, EARNINGS]

    assert apple(edgar).by_form == {"8-K": 1}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"filingDate": "1970-01-01"}, "before EDGAR's first year"),
        ({"acceptanceDateTime": "1970-01-01T00:00:00.000Z"}, "before EDGAR's first year"),
        ({"filingDate": "2099-01-01"}, "in the future"),
        ({"acceptanceDateTime": "2099-01-01T00:00:00.000Z"}, "in the future"),
        ({"acceptanceDateTime": "9999-12-31T23:59:59.000Z"}, "is out of reach"),
        ({"acceptanceDateTime": ""}, "is no time of acceptance"),
        ({"filingDate": "18 November"}, "filing date '18 November' is no date"),
        ({"accessionNumber": "../../etc"}, "is no accession number"),
        ({"form": None}, "there is no form"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_filing_that_cannot_be_is_refused_with_its_reason_and_the_rest_kept(
    lab: EdgarLab, edgar: EdgarFilings, fields: dict[str, Any], reason: str
) -> None:
    lab.filings[APPLE] = [filing(4, "8-K", "2026-11-18T10:00:00") | fields, EARNINGS]

    found = apple(edgar)

    assert [each.accession for each in found.filings] == ["0000320193-26-000003"]
    [row] = found.rejected.to_dict("records")
    assert tuple(found.rejected.columns) == REJECTED_COLUMNS
    assert (row["symbol"], row["source"]) == ("AAPL", "edgar")
    assert reason in row["reason"]


@pytest.mark.parametrize("written", ["", None, "0202-05-02", "0000-00-00", "May"])
def test_a_report_date_that_is_none_does_not_cost_the_filing(
    lab: EdgarLab, edgar: EdgarFilings, written: Any
) -> None:
    lab.filings[APPLE] = [EARNINGS | {"reportDate": written}]

    assert [each.report_date for each in apple(edgar).filings] == [None]


def test_any_script_and_a_body_of_a_megabyte_are_read(lab: EdgarLab, edgar: EdgarFilings) -> None:
    words = "📈 أرباح \u202eמספר\u202c " + "x" * 1_000_000
    lab.filings[APPLE] = [EARNINGS | {"primaryDocDescription": words}]

    assert apple(edgar).filings[0].about == words.strip()


def test_a_company_that_edgar_does_not_have_is_a_bad_request(edgar: EdgarFilings) -> None:
    with pytest.raises(BadRequest):
        edgar.company(42, "NONE", SINCE, UNTIL)


_SHORT = arrays([EARNINGS]) | {"form": []}
_RENAMED = {("formType" if name == "form" else name): v for name, v in arrays([EARNINGS]).items()}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([1], "no filings of company"),
        ({"cik": "320193"}, "no filings of company"),
        ({"cik": "1", "filings": {"recent": arrays([])}}, "no filings of company"),
        ({"cik": "320193", "filings": {"recent": []}}, "no arrays"),
        ({"cik": "320193", "filings": {"recent": _RENAMED}}, "no array 'form'"),
        ({"cik": "320193", "filings": {"recent": _SHORT}}, "'form' has 0 values"),
    ],
    ids=["array", "nothing", "another company", "no arrays", "changed field", "short"],
)
def test_an_answer_of_another_shape_is_schema_drift(
    lab: EdgarLab, edgar: EdgarFilings, answer: Any, found: str
) -> None:
    lab.answers["/submissions/CIK0000320193.json"] = answer

    with pytest.raises(SchemaDrift, match=found):
        apple(edgar)


@pytest.mark.parametrize("answer", [[], {}, {"0": {"cik": 1}}, {"0": 5}])
def test_a_list_without_tickers_is_schema_drift(
    lab: EdgarLab, edgar: EdgarFilings, answer: Any
) -> None:
    lab.answers["/files/company_tickers.json"] = answer

    with pytest.raises(SchemaDrift, match="ticker"):
        edgar.tickers()


# --- when a filing was public -------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "filing_date", "public"),
    [
        # Eastern time is behind UTC: that reading is the later one.
        ("2026-11-18T16:05:10.000Z", "2026-11-18", "2026-11-18T21:05:10"),
        ("2026-07-01T16:05:10.000Z", "2026-07-01", "2026-07-01T20:05:10"),
        ("2026-11-18T16:05:10", "2026-11-18", "2026-11-18T21:05:10"),
        # A time that says its offset is taken at its word.
        ("2026-11-18T16:05:10-05:00", "2026-11-18", "2026-11-18T21:05:10"),
        # The hour that comes twice, and the one that never comes.
        ("2026-11-01T01:30:00.000Z", "2026-11-01", "2026-11-01T11:00:00"),
        ("2026-03-08T02:30:00.000Z", "2026-03-07", "2026-03-08T07:30:00"),
        # After 17:30 it waits for the morning of the next business day: Columbus Day has a
        # session, but EDGAR is closed.
        ("2026-10-09T18:00:00.000Z", "2026-10-13", "2026-10-13T10:00:00"),
    ],
)
def test_a_filing_was_public_at_the_latest_of_all_readings(
    accepted: str, filing_date: str, public: str
) -> None:
    assert published_at(accepted, date.fromisoformat(filing_date)) == datetime.fromisoformat(
        public
    ).replace(tzinfo=UTC)


# --- amendments ---------------------------------------------------------------------------


def links(*filings: dict[str, Any]) -> dict[str, str]:
    """Return amendment -> original, as the last digits of their numbers."""
    found, _ = parse_filings(
        arrays(list(filings)), cik=APPLE, symbol="AAPL", origin="file", now=NOW
    )
    return {left[-1]: right[-1] for left, right in originals(found).items()}


def test_an_amendment_names_the_report_of_the_same_period() -> None:
    assert links(
        filing(3, "10-K/A", "2026-11-18T10:00:00", reportDate="2026-09-30"),
        filing(2, "10-K", "2026-10-30T10:00:00", reportDate="2026-09-30"),
        filing(1, "10-K", "2025-10-30T10:00:00", reportDate="2025-09-30"),
    ) == {"3": "2"}


def test_of_several_reports_of_a_day_the_one_with_the_same_item_is_amended() -> None:
    day = {"reportDate": "2026-11-02"}
    assert links(
        filing(3, "8-K/A", "2026-11-18T10:00:00", items="2.01,9.01", **day),
        filing(2, "8-K", "2026-11-02T10:00:00", items="2.01", **day),
        filing(1, "8-K", "2026-11-02T09:00:00", items="5.02", **day),
    ) == {"3": "2"}


def test_an_amendment_whose_original_is_not_plain_names_none() -> None:
    day = {"reportDate": "2026-11-02"}
    assert not links(
        filing(3, "4/A", "2026-11-18T10:00:00", **day),
        filing(2, "4", "2026-11-02T10:00:00", **day),
        filing(1, "4", "2026-11-02T09:00:00", **day),
    )


def test_a_registration_is_known_by_its_number() -> None:
    assert links(
        filing(3, "S-1/A", "2026-11-18T10:00:00", fileNumber="333-1"),
        filing(2, "S-1", "2026-11-02T10:00:00", fileNumber="333-1"),
        filing(1, "S-1", "2026-11-02T09:00:00", fileNumber="333-2"),
    ) == {"3": "2"}


def test_a_report_after_the_amendment_is_not_its_original() -> None:
    assert not links(
        filing(3, "10-K", "2026-11-18T10:00:00", reportDate="2026-09-30"),
        filing(2, "10-K/A", "2026-11-02T10:00:00", reportDate="2026-09-30"),
    )


# --- events -------------------------------------------------------------------------------


def batch(
    *companies: CompanyFilings,
    watched: dict[int, list[int]] | None = None,
    since: datetime = SINCE,
    until: datetime = UNTIL,
) -> EventBatch:
    return events_of(
        companies,
        {APPLE: [7]} if watched is None else watched,
        RULES,
        since=since,
        until=until,
        calendar=get_calendar("us"),
        detected_at=NOW,
    )


def test_a_report_is_an_event_of_its_highest_item(edgar: EdgarFilings) -> None:
    found = batch(apple(edgar))

    [event] = validate_catalysts(found.events).to_dict("records")
    assert (event["type"], event["impact"], event["instrument_id"]) == ("earnings", 8, 7)
    assert event["title"] == ("Company 320193: Results of operations and financial condition (8-K)")
    assert event["description"] == (
        "2.02 Results of operations and financial condition; 9.01 Financial statements and exhibits"
    )
    assert event["url"] == (
        "https://www.sec.gov/Archives/edgar/data/320193/000032019326000003/doc3.htm"
    )
    assert event["published_at"] == datetime(2026, 11, 18, 21, 5, 10, tzinfo=UTC)
    assert event["first_tradable_at"] == datetime(2026, 11, 19, 14, 30, tzinfo=UTC)
    assert event["detected_at"] == NOW


def test_companies_without_a_watched_ticker_are_skipped_and_counted(edgar: EdgarFilings) -> None:
    found = batch(apple(edgar), watched={})

    assert found.events.empty
    assert found.skipped == {NOT_WATCHED: 1}
    assert found.filings_by_form == {"8-K": 1}


def test_letters_that_are_shown_weeks_later_are_no_events(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    lab.filings[APPLE] = [filing(1, "CORRESP", "2026-11-18T10:00:00"), EARNINGS]

    found = batch(apple(edgar))

    assert found.skipped == {LEFT_OUT: 1}
    assert list(found.events["form"]) == ["8-K"]


def test_what_was_published_outside_the_window_is_no_event_of_it(edgar: EdgarFilings) -> None:
    found = batch(apple(edgar), until=datetime(2026, 11, 18, 21, 5, 10, tzinfo=UTC))

    assert found.events.empty
    assert found.filings_by_form == {}


def test_a_filing_of_two_companies_is_one_event_with_the_instruments_of_both(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    lab.filings[1067983] = [EARNINGS]
    companies = [apple(edgar), edgar.company(1067983, "BRK.B", SINCE, UNTIL)]

    found = batch(*companies, watched={APPLE: [7], 1067983: [8, 9]})

    assert list(found.events["instrument_id"]) == [7, 8, 9]
    assert found.events["source_id"].nunique() == 1
    assert found.filings_by_form == {"8-K": 1}


def test_every_default_rule_can_be_stored() -> None:
    rules = default_rules()

    assert len({(rule.source, rule.form, rule.item) for rule in rules}) == len(rules)
    assert all(rule.impact is None or 1 <= rule.impact <= 10 for rule in rules)
    assert RULES.match("a form that nobody knows") is not None


def test_a_long_name_does_not_break_the_contract(lab: EdgarLab, edgar: EdgarFilings) -> None:
    company = apple(edgar)

    found = batch(replace(company, name="x" * 10_000 + "\u202e🚀"))

    assert len(validate_catalysts(found.events)) == 1


@pytest.mark.parametrize("agent", ["anybody", "data@example.com", "Example Pty Ltd", "Ex\nA b@c.d"])
def test_an_introduction_without_name_and_address_is_no_setting(agent: str) -> None:
    with pytest.raises(ValidationError, match="company name and contact address"):
        ProviderSettings(edgar_user_agent=agent)


def test_an_introduction_is_kept_without_blanks_around_it() -> None:
    assert ProviderSettings(edgar_user_agent=f" {AGENT} ").edgar_user_agent == AGENT


# --- many companies -----------------------------------------------------------------------


def test_watched_symbols_of_one_company_are_asked_for_once(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    found = collect(edgar, {"BRK.A": 8, "BRK.B": 9, "NOFUND": 10}, SINCE, UNTIL)

    assert found.instruments == {1067983: [8, 9]}
    assert found.without_company == ["NOFUND"]
    assert len(lab.requests) == 2


def test_a_company_that_fails_does_not_take_the_others_along(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    lab.broken = {"/submissions/CIK0001067983.json"}

    found = collect(edgar, {"AAPL": 7, "BRK.B": 9}, SINCE, UNTIL)

    assert [company.cik for company in found.companies] == [APPLE]
    assert list(found.errors) == ["BRK.B"]
    assert isinstance(found.failure, TransientError)


def test_a_company_that_is_gone_is_no_failure_of_the_run(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    del lab.filings[1067983]

    found = collect(edgar, {"AAPL": 7, "BRK.B": 9}, SINCE, UNTIL)

    assert list(found.errors) == ["BRK.B"]
    assert found.failure is None


def test_a_block_ends_the_asking(lab: EdgarLab, edgar: EdgarFilings) -> None:
    edgar.tickers()
    lab.concerns_data = lambda seen: seen.path.startswith("/submissions")  # type: ignore[method-assign]
    lab.inject("rate_limited")

    found = collect(edgar, {"AAPL": 7, "BRK.B": 9}, SINCE, UNTIL)

    assert set(found.errors) == {"AAPL", "BRK.B"}
    assert isinstance(found.failure, RateLimited)
    assert len(lab.data_requests) == 1


# --- faults of the transport, with the expectations of `test_every_provider` ---------------


def test_too_many_requests_pause_all_calls_for_ten_minutes(
    lab: EdgarLab, edgar: EdgarFilings, waits: Waits, pauses: Pauses
) -> None:
    lab.inject("rate_limited")

    with pytest.raises(RateLimited) as caught:
        apple(edgar)

    assert (caught.value.provider, caught.value.status) == ("edgar", 403)
    assert caught.value.retry_after == 600
    assert pauses.seconds == [600]
    assert (len(lab.requests), waits.seconds) == (1, [])


def test_a_rest_that_the_provider_asks_for_is_taken(
    lab: EdgarLab, edgar: EdgarFilings, waits: Waits
) -> None:
    lab.inject("rate_limited_retry_after", times=1)

    assert len(apple(edgar).filings) == 1
    assert RETRY_AFTER_SECONDS in waits.seconds


def test_one_server_error_is_got_over(lab: EdgarLab, edgar: EdgarFilings) -> None:
    lab.inject("server_error", times=1)

    assert len(apple(edgar).filings) == 1
    assert edgar.gate.counts.retries == 1


@pytest.mark.parametrize("fault", ["server_error", "cut_body", "slow_drip", "html", "silence"])
def test_a_broken_answer_is_an_error_and_never_no_data(
    lab: EdgarLab, edgar: EdgarFilings, fault: TransportFault
) -> None:
    lab.inject(fault)

    with pytest.raises(TransientError) as caught:
        apple(edgar)

    assert caught.value.provider == "edgar"


def test_who_does_not_say_who_asks_is_refused(lab: EdgarLab, waits: Waits) -> None:
    with (
        closing(client(lab, Gate("edgar", sleep=waits), user_agent="anybody")) as nobody,
        pytest.raises(AuthError, match="SCIZOR_EDGAR_USER_AGENT"),
    ):
        apple(nobody)

    assert len(lab.requests) == 1


def test_a_refused_connection_is_an_error_and_never_no_data(
    lab: EdgarLab, edgar: EdgarFilings
) -> None:
    lab.stop()

    with pytest.raises(TransientError) as caught:
        apple(edgar)

    assert AGENT not in str(caught.value)


# --- recorded payloads --------------------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")
recorded = pytest.mark.skipif(
    not (Path(RECORDINGS) / "sec_edgar").is_dir(),
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (sec_edgar/)",
)
TESLA = 1318605


def recording(name: str) -> Any:
    return json.loads((Path(RECORDINGS) / "sec_edgar" / name).read_text())


@pytest.fixture
def tesla(lab: EdgarLab, edgar: EdgarFilings) -> CompanyFilings:
    answer = recording("company_submission.json")
    answer["filings"]["files"] = []
    lab.answers[f"/submissions/CIK{TESLA:010d}.json"] = answer
    return edgar.company(TESLA, "TSLA", datetime(2010, 1, 1, tzinfo=UTC), NOW)


@recorded
def test_recorded_tickers_are_read(lab: EdgarLab, edgar: EdgarFilings) -> None:
    lab.answers["/files/company_tickers.json"] = recording("company_tickers.json")

    tickers = edgar.tickers()

    assert (len(tickers), tickers["AAPL"], tickers["BRK-B"]) == (9610, APPLE, 1067983)


@recorded
def test_a_thousand_and_one_recorded_filings_have_the_right_count_by_form(
    tesla: CompanyFilings,
) -> None:
    assert tesla.rejected.empty
    assert sum(tesla.by_form.values()) == 1001
    # Counted with jq over the recording.
    assert Counter(tesla.by_form).most_common(5) == [
        ("4", 502),
        ("8-K", 163),
        ("SC 13G/A", 37),
        ("10-Q", 27),
        ("DEFA14A", 27),
    ]
    assert (tesla.by_form["10-K"], tesla.by_form["10-K/A"], tesla.by_form["8-K/A"]) == (9, 3, 1)


@recorded
def test_recorded_filings_become_events_that_never_look_ahead(tesla: CompanyFilings) -> None:
    found = batch(tesla, watched={TESLA: [1]}, since=datetime(2010, 1, 1, tzinfo=UTC), until=NOW)
    events = validate_catalysts(found.events)

    # CORRESP 20, UPLOAD 19, CT ORDER 24, SEC STAFF LETTER 2, NO ACT 1
    assert found.skipped == {LEFT_OUT: 66}
    assert len(events) == 1001 - 66
    assert (events["first_tradable_at"] >= events["published_at"]).all()
    assert (events["type"] == "earnings").sum() == 71


@recorded
def test_recorded_amendments_name_their_reports(tesla: CompanyFilings) -> None:
    dates = {each.accession: (each.form, each.report_date) for each in tesla.filings}
    named = {dates[left]: dates[right] for left, right in originals(tesla.filings).items()}

    assert {
        ("10-K/A", date(2021, 12, 31)): ("10-K", date(2021, 12, 31)),
        ("10-K/A", date(2020, 12, 31)): ("10-K", date(2020, 12, 31)),
        ("10-K/A", date(2019, 12, 31)): ("10-K", date(2019, 12, 31)),
        ("8-K/A", date(2016, 11, 21)): ("8-K", date(2016, 11, 21)),
    }.items() <= named.items()
