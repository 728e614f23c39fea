"""EDGAR as a source of events: insiders' statements, holders, full-text search. Written by hand."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from scizor_core.catalysts import CatalystRule, RuleTable
from scizor_core.errors import ContractError
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import validate_catalysts
from scizor_resources.errors import RateLimited, SchemaDrift, TransientError
from scizor_resources.providers.base import REJECTED_COLUMNS
from scizor_resources.providers.edgar.client import EdgarFilings
from scizor_resources.providers.edgar.events import ABOUT_ANOTHER
from scizor_resources.providers.edgar.filings import Filing, originals, parse_filings
from scizor_resources.providers.edgar.ownership import (
    LONGEST_DOCUMENT,
    document_path,
    parse_statement,
)
from scizor_resources.providers.edgar.source import EdgarEvents
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.catalysts import default_rules
from tests.contract.lab.edgar_server import (
    RATE_PAGE,
    EdgarLab,
    arrays,
    filing,
    hit,
    owner,
    statement,
    transaction,
)
from tests.contract.lab.server import HTML_PAGE, Reply, Seen

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SINCE, UNTIL = datetime(2026, 11, 18, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC)
RULES = RuleTable(rule for rule in default_rules() if rule.source == "edgar")
APPLE, OTHER = 320193, 1067983
AAPL = Nameable(7, "us", "AAPL", "Apple")
BRK = Nameable(8, "us", "BRK.B", "Berkshire Hathaway")
PHRASE = "going concern"
BUY = transaction("P", "A", "10000", "12.34")
FORM_4 = filing(
    2,
    "4",
    "2026-11-18T16:30:00",
    primaryDocument="xslF345X05/form4.xml",
    primaryDocDescription="FORM 4",
    reportDate="2026-11-17",
)
DOCUMENT = "/Archives/edgar/data/320193/000032019326000002/form4.xml"
EARNINGS = filing(3, "8-K", "2026-11-18T16:05:10", items="2.02,9.01", reportDate="2026-11-18")


@pytest.fixture
def lab() -> Iterator[EdgarLab]:
    with EdgarLab() as running:
        running.tickers = {"AAPL": APPLE, "BRK-B": OTHER}
        running.filings = {APPLE: [FORM_4], OTHER: []}
        running.answers[DOCUMENT] = statement(BUY)
        yield running


class Waits:
    """Stands in for `time.sleep`."""

    def __call__(self, seconds: float) -> None:
        """Wait not at all."""


def fetch(
    lab: EdgarLab,
    *,
    full_text: tuple[str, ...] = (),
    watched: tuple[Nameable, ...] = (AAPL,),
    rules: RuleTable = RULES,
    since: datetime = SINCE,
    until: datetime = UNTIL,
    now: datetime = NOW,
) -> EventFindings:
    client = EdgarFilings(
        Gate("edgar", sleep=Waits()),
        user_agent="Example Pty Ltd data@example.com",
        base_url=lab.url,
        www_base_url=lab.url,
        search_base_url=lab.url,
        timeout_seconds=1.5,
        now=lambda: now,
    )
    source = EdgarEvents(client, now=lambda: now, full_text=full_text)
    try:
        return source.fetch(EventRequest(since, until, watched, rules))
    finally:
        source.close()


def event(findings: EventFindings) -> dict[str, Any]:
    """Return the only event."""
    [found] = validate_catalysts(findings.events).to_dict("records")
    return {str(name): value for name, value in found.items()}


# --- a statement's words ------------------------------------------------------------------


def words(*lines: str, **of_whom: Any) -> str:
    return parse_statement(statement(*lines, **of_whom).decode()).words


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([BUY], "An officer bought 10,000 shares at 12.34 USD on average (123,400 USD)"),
        # 300 x 10 + 100 x 20 = 5,000 for 400 shares.
        (
            [transaction("S", "D", "300", "10"), transaction("S", "D", "100", "20")],
            "An officer sold 400 shares at 12.50 USD on average (5,000 USD)",
        ),
        (
            [transaction("S", "D", "300")],
            "An officer sold 300 shares at a price in a footnote",
        ),
        (
            [transaction("S", "D", "300"), transaction("S", "D", "100", "20")],
            "An officer sold 400 shares, 100 of them at 20.00 USD on average (2,000 USD)",
        ),
        (
            [transaction("P", "A", "1000.5", "0.0125")],
            "An officer bought 1,000.5 shares at 0.0125 USD on average (13 USD)",
        ),
        (
            [transaction("M", "A", "500", "5"), transaction("F", "D", "200", "150")],
            "An officer received 500 shares by exercise or conversion; "
            "had 200 shares withheld for tax",
        ),
        ([transaction("A", "A", "757756", "0")], "An officer was granted 757,756 shares"),
        ([transaction("G", "D", "61386", "0")], "An officer gave away 61,386 shares"),
        ([transaction("J", "D", "10", "1")], "An officer disposed of 10 shares (code J)"),
        ([], "An officer reported no transaction in shares"),
    ],
)
def test_a_statement_says_what_was_done(lines: list[str], said: str) -> None:
    assert words(*lines) == said


@pytest.mark.parametrize(
    ("owners", "who"),
    [
        (owner(roles="isOfficer", title="Chief Executive Officer"), "An officer (Chief Exec"),
        (owner(roles="isDirector isOfficer"), "A director and officer bought"),
        (owner(roles="isTenPercentOwner"), "A holder of more than 10 % bought"),
        (owner(roles=""), "An insider bought"),
        (owner() + owner(roles="isTenPercentOwner"), "Insiders (officer, holder of more than"),
    ],
)
def test_a_statement_says_in_which_role(owners: str, who: str) -> None:
    assert words(BUY, owners=owners).startswith(who)


def test_boxes_may_be_ticked_with_true() -> None:
    document = statement(BUY).replace(b"<isOfficer>1", b"<isOfficer>true")

    assert parse_statement(document.decode()).roles == ("officer",)


def test_a_trade_by_a_plan_is_said_to_be_one() -> None:
    assert words(BUY, plan="true").endswith("under a plan made before (Rule 10b5-1)")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + statement(BUY), "has a DTD"),
        (b"<!doctype x>" + statement(BUY), "has a DTD"),
        (b"x" * (LONGEST_DOCUMENT + 1), "longer than 2,000,000"),
        (statement(BUY)[:-20], "not well-formed"),
        (b"", "not well-formed"),
        (b"<informationTable/>", "no statement of ownership"),
        (statement(BUY).replace(b"issuerCik", b"issuerId"), "no number of the issuer"),
        (statement(BUY).replace(b"transactionCode>", b"code>"), "has no code"),
        (statement(BUY).replace(b"transactionShares>", b"shares>"), "no number of shares"),
        (statement(transaction("P", "A", "many", "1")), "cannot be"),
        (statement(transaction("P", "A", "-5", "1")), "cannot be"),
        (statement(transaction("P", "A", "NaN", "1")), "cannot be"),
        (statement(transaction("P", "A", "1e300", "1")), "cannot be"),
        (statement(transaction("P", "A", "5", "inf")), "cannot be"),
        (statement(transaction("P", "D", "5", "1")), "gave shares away"),
        (statement(transaction("P", "", "5", "1")), "came in or went out"),
    ],
)
def test_a_document_that_cannot_be_read_is_refused_with_the_reason(
    document: bytes, reason: str
) -> None:
    with pytest.raises(ContractError, match=reason):
        parse_statement(document.decode())


# --- insiders -----------------------------------------------------------------------------


def test_a_purchase_is_an_event_of_its_own_kind(lab: EdgarLab) -> None:
    found = event(fetch(lab))

    assert (found["type"], found["impact"], found["items"]) == ("insider_buy", 6, "P")
    assert found["title"] == "Company 320193: Insider bought in the market (4)"
    assert found["description"] == (
        "An officer bought 10,000 shares at 12.34 USD on average (123,400 USD)"
    )
    assert found["url"] == (
        "https://www.sec.gov/Archives/edgar/data/320193/000032019326000002/xslF345X05/form4.xml"
    )


def test_the_document_is_asked_for_without_the_folder_of_its_style_sheet(lab: EdgarLab) -> None:
    fetch(lab)

    assert [seen.path for seen in lab.requests] == [
        "/files/company_tickers.json",
        "/submissions/CIK0000320193.json",
        DOCUMENT,
    ]


@pytest.mark.parametrize(
    ("lines", "kind", "impact"),
    [
        ([transaction("S", "D", "100", "20")], "insider_sell", 4),
        # A million USD, ten million USD.
        ([transaction("S", "D", "50000", "20")], "insider_sell", 5),
        ([transaction("P", "A", "500000", "20")], "insider_buy", 8),
        # Only what was bought counts for a purchase.
        (
            [transaction("P", "A", "10", "20"), transaction("S", "D", "500000", "20")],
            "insider_buy",
            6,
        ),
        ([transaction("A", "A", "5000000", "20")], "insider", 2),
        ([transaction("M", "A", "5", "20"), transaction("F", "D", "5", "20")], "insider", 2),
        ([transaction("G", "D", "5", "0")], "insider", 1),
        ([transaction("J", "D", "5", "0")], "insider", 3),
        ([], "insider", 3),
    ],
)
def test_the_codes_and_the_value_say_how_much_it_matters(
    lab: EdgarLab, lines: list[str], kind: str, impact: int
) -> None:
    lab.answers[DOCUMENT] = statement(*lines)

    found = event(fetch(lab))

    assert (found["type"], found["impact"]) == (kind, impact)


def test_an_amended_statement_is_a_purchase_that_amends(lab: EdgarLab) -> None:
    first = FORM_4 | {"accessionNumber": "0000320193-26-000001"}
    lab.filings[APPLE] = [FORM_4 | {"form": "4/A"}, first]
    lab.answers[DOCUMENT.replace("000002", "000001")] = statement(BUY)

    found = fetch(lab).events.set_index("source_id")

    assert list(found["type"]) == ["insider_buy", "insider_buy"]
    amended = found.loc["0000320193-26-000002"]
    assert (amended["is_amendment"], amended["amends"]) == (True, "0000320193-26-000001")


def test_a_yearly_statement_is_read_too(lab: EdgarLab) -> None:
    lab.filings[APPLE] = [FORM_4 | {"form": "5"}]

    found = event(fetch(lab))

    assert (found["type"], found["impact"]) == ("insider_buy", 4)


def test_a_first_statement_has_no_trades_and_is_not_fetched(lab: EdgarLab) -> None:
    lab.filings[APPLE] = [FORM_4 | {"form": "3"}]

    assert (event(fetch(lab))["type"], len(lab.requests)) == ("insider", 2)


def test_statements_outside_the_window_are_not_fetched(lab: EdgarLab) -> None:
    later = timedelta(days=1)

    assert fetch(lab, since=SINCE + later, until=UNTIL + later).events.empty
    assert len(lab.requests) == 2


def test_statements_that_the_rules_leave_out_are_not_fetched(lab: EdgarLab) -> None:
    rules = RuleTable([CatalystRule("8-K", "", "company_report", "Current report", 4)])

    assert fetch(lab, rules=rules).events.empty
    assert len(lab.requests) == 2


def test_a_statement_about_another_company_is_an_event_of_that_one(lab: EdgarLab) -> None:
    lab.filings[OTHER] = [FORM_4]
    lab.answers[DOCUMENT.replace("320193/", f"{OTHER}/")] = statement(BUY)

    both = fetch(lab, watched=(AAPL, BRK))
    holder = fetch(lab, watched=(BRK,))

    assert (event(both)["instrument_id"], both.skipped) == (7, {})
    assert (holder.events.empty, holder.skipped) == (True, {ABOUT_ANOTHER: 1})


def test_a_statement_that_two_companies_list_is_fetched_once(lab: EdgarLab) -> None:
    lab.filings[OTHER] = [FORM_4]
    lab.answers[DOCUMENT.replace("320193/", f"{OTHER}/")] = statement(BUY)

    fetch(lab, watched=(AAPL, BRK))

    assert len([seen for seen in lab.requests if "/Archives/" in seen.path]) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"primaryDocument": "form4.txt"}, "not XML"),
        ({"primaryDocument": "../../form4.xml"}, "not XML"),
        ({"primaryDocument": ""}, "not XML"),
        ({"primaryDocument": "gone.xml"}, "no such document"),
    ],
)
def test_a_document_that_is_not_there_leaves_the_form_and_a_note(
    lab: EdgarLab, change: dict[str, Any], reason: str
) -> None:
    lab.filings[APPLE] = [FORM_4 | change]

    found = fetch(lab)

    assert (event(found)["type"], event(found)["impact"]) == ("insider", 3)
    assert event(found)["description"] == "FORM 4"
    [note] = found.notes
    assert reason in note
    assert "0000320193-26-000002" in note
    assert found.failure is None


def test_an_unreadable_document_leaves_the_form_and_a_note(lab: EdgarLab) -> None:
    lab.answers[DOCUMENT] = (
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><ownershipDocument>&a;</ownershipDocument>"
    )

    found = fetch(lab)

    assert event(found)["type"] == "insider"
    assert "has a DTD" in found.notes[0]
    assert found.failure is None


def test_a_document_that_another_try_may_mend_fails_the_run_with_its_event_kept(
    lab: EdgarLab,
) -> None:
    lab.broken = {DOCUMENT}

    found = fetch(lab)

    assert event(found)["type"] == "insider"
    assert isinstance(found.failure, TransientError)
    assert list(found.errors) == ["0000320193-26-000002"]


def test_a_page_in_place_of_a_document_is_no_document(lab: EdgarLab) -> None:
    lab.answers[DOCUMENT] = HTML_PAGE

    assert isinstance(fetch(lab).failure, TransientError)


def test_a_block_ends_the_asking_for_documents_and_loses_no_event(lab: EdgarLab) -> None:
    lab.filings[APPLE] = [
        filing(n, "4", "2026-11-18T16:30:00", primaryDocument="xslF345X05/form4.xml")
        for n in (4, 5, 6)
    ]
    lab.concerns_data = lambda seen: "/Archives/" in seen.path  # type: ignore[method-assign]
    lab.inject("rate_limited")

    found = fetch(lab)

    assert len(found.events) == 3
    assert isinstance(found.failure, RateLimited)
    assert len(lab.data_requests) == 1
    assert "3 statements of insiders" in found.notes[0]


def test_documents_of_which_none_can_be_read_are_drift(lab: EdgarLab) -> None:
    lab.filings[APPLE] = [
        filing(n, "4", "2026-11-18T16:30:00", primaryDocument="xslF345X05/form4.xml")
        for n in (4, 5, 6)
    ]
    lab.answers = {
        f"/Archives/edgar/data/320193/00003201932600000{n}/form4.xml": statement(BUY).replace(
            b"transactionCode>", b"code>"
        )
        for n in (4, 5, 6)
    }

    found = fetch(lab)

    assert len(found.events) == 3
    assert isinstance(found.failure, SchemaDrift)


@pytest.mark.parametrize(
    "title", ["Jane Q. Roe, CFO", "EVP (ROE)", "Write to @jane_roe", "x" * 200]
)
def test_no_name_of_an_insider_is_kept(lab: EdgarLab, title: str) -> None:
    lab.answers[DOCUMENT] = statement(BUY, owners=owner("ROE JANE Q", title=title))
    lab.filings[APPLE] = [
        FORM_4,
        filing(9, "8-K", "1970-01-01T00:00:00", primaryDocDescription="By @jane_roe"),
    ]

    found = fetch(lab)
    everything = repr((found.events.to_dict("records"), found.rejected.to_dict("records"), found))

    assert len(found.rejected) == 1
    assert "roe" not in everything.lower()


# --- holders above 5 % --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "impact"),
    [("SC 13D", 7), ("SCHEDULE 13D", 7), ("SC 13G", 4), ("SCHEDULE 13G", 4)],
)
@pytest.mark.parametrize("amended", ["", "/A"])
def test_a_statement_of_a_holder_is_an_event_of_the_company_it_is_about(
    lab: EdgarLab, form: str, impact: int, amended: str
) -> None:
    lab.filings[APPLE] = [filing(5, form + amended, "2026-11-18T17:00:00", fileNumber="005-33632")]

    found = event(fetch(lab))

    assert (found["type"], found["impact"]) == ("large_holder", impact)
    assert found["is_amendment"] == bool(amended)


def test_a_statement_that_a_company_makes_as_a_holder_is_not_about_it(lab: EdgarLab) -> None:
    # Under the holder the number of the other company's registration is absent.
    made = filing(5, "SCHEDULE 13G", "2026-11-18T17:00:00", fileNumber="")
    lab.filings[APPLE] = [made, EARNINGS]

    found = fetch(lab)

    assert list(found.events["form"]) == ["8-K"]
    assert found.skipped == {ABOUT_ANOTHER: 1}


def holders(*filings: dict[str, Any]) -> dict[str, str]:
    """Return amendment -> original, as the last digits of their numbers."""
    found, _ = parse_filings(
        arrays([each | {"fileNumber": "005-33632"} for each in filings]),
        cik=APPLE,
        symbol="AAPL",
        origin="file",
        now=NOW,
    )
    return {left[-1]: right[-1] for left, right in originals(found).items()}


def test_an_amended_statement_of_a_holder_names_the_first_one() -> None:
    assert holders(
        filing(2, "SC 13D/A", "2026-11-18T10:00:00"), filing(1, "SC 13D", "2026-10-01T10:00:00")
    ) == {"2": "1"}


def test_a_form_that_is_called_otherwise_since_2024_is_the_same_form() -> None:
    assert holders(
        filing(2, "SCHEDULE 13G/A", "2026-11-18T10:00:00"),
        filing(1, "SC 13G", "2024-02-14T10:00:00"),
    ) == {"2": "1"}


def test_the_statement_of_another_holder_is_not_the_one_that_is_amended() -> None:
    other = {"accessionNumber": "0000102909-26-000001"}

    assert not holders(
        filing(2, "SCHEDULE 13G/A", "2026-11-18T10:00:00"),
        filing(1, "SCHEDULE 13G", "2026-10-01T10:00:00") | other,
    )


def test_a_purpose_and_a_passive_holding_do_not_amend_each_other() -> None:
    assert not holders(
        filing(2, "SC 13D/A", "2026-11-18T10:00:00"), filing(1, "SC 13G", "2026-10-01T10:00:00")
    )


# --- full text ----------------------------------------------------------------------------


def search(lab: EdgarLab, **options: Any) -> EventFindings:
    return fetch(lab, full_text=(PHRASE,), **options)


def test_a_phrase_is_searched_for_in_the_filings_of_watched_companies(lab: EdgarLab) -> None:
    search(lab, watched=(AAPL, BRK))

    [asked] = lab.searches
    assert asked.query == {
        "q": '"going concern"',
        "dateRange": "custom",
        # The window begins on the evening of the 17th in New York; what was filed on the 16th is
        # public at the latest in the first hour of the 17th.
        "startdt": "2026-11-16",
        "enddt": "2026-11-18",
        "ciks": "0000320193,0001067983",
    }


def test_without_phrases_nothing_is_searched(lab: EdgarLab) -> None:
    fetch(lab)

    assert lab.searches == []


def test_quotation_marks_do_not_end_a_phrase(lab: EdgarLab) -> None:
    fetch(lab, full_text=(' "going  concern" ', "  "))

    assert [seen.query["q"] for seen in lab.searches] == ['"going concern"']


def test_documents_of_a_filing_that_is_listed_are_that_one_event_with_its_time(
    lab: EdgarLab,
) -> None:
    lab.filings[APPLE] = [EARNINGS]
    lab.hits[PHRASE] = [
        hit(3, "8-K", "2026-11-18", file_name="ex99.htm", file_type="EX-99.1"),
        hit(3, "8-K", "2026-11-18"),
    ]

    found = event(search(lab))

    assert found["published_at"] == datetime(2026, 11, 18, 21, 5, 10, tzinfo=UTC)
    assert found["accepted_text"] == "2026-11-18T16:05:10.000Z"
    assert found["description"].endswith(
        '9.01 Financial statements and exhibits; the full text has "going concern"'
    )


def test_several_phrases_stand_in_one_description(lab: EdgarLab) -> None:
    lab.hits = {PHRASE: [hit(2, "4", "2026-11-18")], "material": [hit(2, "4", "2026-11-18")]}

    found = event(fetch(lab, full_text=(PHRASE, "material")))

    assert found["description"].endswith('the full text has "going concern", "material"')


def test_a_filing_that_only_the_search_knows_is_public_when_its_day_is_over(lab: EdgarLab) -> None:
    lab.filings[APPLE] = []
    lab.hits[PHRASE] = [
        hit(4, "8-K", "2026-11-17", file_name="ex99.htm", file_type="EX-99.1", items=["1.03"]),
        hit(4, "8-K", "2026-11-17", file_name="main.htm", items=["1.03", "9.01"]),
    ]

    found = event(search(lab))

    # Midnight in New York.
    assert found["published_at"] == datetime(2026, 11, 18, 5, tzinfo=UTC)
    assert found["first_tradable_at"] == datetime(2026, 11, 18, 14, 30, tzinfo=UTC)
    assert found["source_id"] == "0000320193-26-000004"
    assert (found["type"], found["impact"], found["items"]) == ("bankruptcy", 10, "1.03,9.01")
    assert found["description"].endswith('exhibits; the full text has "going concern"')
    assert (found["accepted_text"], found["filing_date"].date()) == ("", date(2026, 11, 17))
    assert found["url"].endswith("/data/320193/000032019326000004/main.htm")


def test_a_day_in_summer_is_over_an_hour_earlier(lab: EdgarLab) -> None:
    lab.filings[APPLE] = []
    lab.hits[PHRASE] = [hit(4, "8-K", "2026-07-01")]
    july = datetime(2026, 7, 2, tzinfo=UTC)

    found = event(search(lab, since=july, until=july + timedelta(days=1)))

    assert found["published_at"] == july + timedelta(hours=4)


def test_a_filing_whose_day_is_not_over_waits(lab: EdgarLab) -> None:
    lab.filings[APPLE] = []
    lab.hits[PHRASE] = [hit(4, "8-K", "2026-11-17")]

    found = search(lab, now=datetime(2026, 11, 18, 4, 59, tzinfo=UTC))

    assert found.events.empty


def test_a_statement_that_only_the_search_knows_is_read(lab: EdgarLab) -> None:
    lab.filings[APPLE] = []
    lab.hits[PHRASE] = [hit(2, "4", "2026-11-17", file_name="form4.xml")]

    assert event(search(lab))["type"] == "insider_buy"


def test_pages_of_hits_are_read_to_their_end_and_no_further(lab: EdgarLab) -> None:
    lab.filings[APPLE] = []
    lab.hits[PHRASE] = [hit(100 + n, "8-K", "2026-11-17") for n in range(6)]
    lab.hits_per_page = 3

    assert len(search(lab).events) == 6
    assert [seen.query.get("from") for seen in lab.searches] == [None, "3"]


def test_too_many_hits_are_asked_for_by_days_and_by_companies(lab: EdgarLab) -> None:
    lab.filings = {APPLE: [], OTHER: []}
    both = ["0000320193", "0001067983"]
    lab.hits[PHRASE] = [
        hit(100 + 10 * day + n, "8-K", f"2026-11-{day}", ciks=[both[n % 2]])
        for day in (16, 17)
        for n in range(4)
    ]
    lab.most_hits = 2

    found = search(lab, watched=(AAPL, BRK), since=SINCE - timedelta(days=1))

    assert len(found.events) == 8
    assert found.notes == []
    assert {(seen.query["startdt"], seen.query["ciks"]) for seen in lab.searches} >= {
        (f"2026-11-{day}", cik) for day in (16, 17) for cik in both
    }


def test_too_many_hits_of_one_company_and_day_are_said(lab: EdgarLab) -> None:
    lab.filings[APPLE] = []
    lab.hits[PHRASE] = [hit(100 + n, "8-K", "2026-11-17") for n in range(5)]
    lab.most_hits = 3

    found = search(lab)

    assert len(found.events) == 3
    [note] = found.notes
    assert "3 documents of 1 companies from 2026-11-17 to 2026-11-17" in note


def test_many_companies_are_searched_in_parts(lab: EdgarLab) -> None:
    lab.tickers = {f"T{n}": 1000 + n for n in range(60)}
    lab.filings = {1000 + n: [] for n in range(60)}

    search(lab, watched=tuple(Nameable(n + 1, "us", f"T{n}", "") for n in range(60)))

    assert [seen.query["ciks"].count(",") + 1 for seen in lab.searches] == [50, 10]


def test_years_before_the_search_begins_are_not_asked_for(lab: EdgarLab) -> None:
    since = datetime(1999, 5, 1, tzinfo=UTC)

    search(lab, since=since, until=since + timedelta(days=1))

    assert lab.searches == []


def test_a_company_whose_list_failed_is_not_searched(lab: EdgarLab) -> None:
    lab.broken = {"/submissions/CIK0000320193.json"}
    lab.hits[PHRASE] = [hit(2, "4", "2026-11-17")]

    found = search(lab, watched=(AAPL, BRK))

    assert [seen.query["ciks"] for seen in lab.searches] == ["0001067983"]
    assert found.events.empty
    assert list(found.errors) == ["AAPL"]


def test_a_search_that_fails_does_not_cost_the_filings(lab: EdgarLab) -> None:
    lab.broken = {"/LATEST/search-index"}

    found = search(lab)

    assert event(found)["type"] == "insider_buy"
    assert list(found.errors) == [PHRASE]
    assert isinstance(found.failure, TransientError)


class Blocking(EdgarLab):
    """Says of searches that there were too many."""

    def respond(self, seen: Seen) -> Reply:
        if seen.path == "/LATEST/search-index":
            return Reply(RATE_PAGE, 403, {"Content-Type": "text/html"})
        return super().respond(seen)


def test_a_block_ends_all_asking() -> None:
    with Blocking() as lab:
        assert isinstance(lab, Blocking)
        lab.tickers, lab.filings = {"AAPL": APPLE}, {APPLE: [FORM_4]}

        found = fetch(lab, full_text=(PHRASE, "material"))

        assert (len(lab.searches), len(lab.requests)) == (1, 3)
    assert event(found)["type"] == "insider"
    assert set(found.errors) == {PHRASE, "material"}
    assert isinstance(found.failure, RateLimited)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"message": "sorry"}, "no hits and their number"),
        ({"hits": {"hits": [], "total": 5}}, "no hits and their number"),
        ({"hits": {"total": {"value": 1, "relation": "eq"}}}, "no hits and their number"),
        (
            {
                "hits": {
                    "total": {"value": 1, "relation": "eq"},
                    "hits": [{"_source": {"adsh": "x"}}],
                }
            },
            "no hit has 'form'",
        ),
    ],
)
def test_an_answer_of_another_shape_is_drift(lab: EdgarLab, answer: Any, found: str) -> None:
    lab.answers["/LATEST/search-index"] = answer

    failure = search(lab).failure

    assert isinstance(failure, SchemaDrift)
    assert found in str(failure)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"file_date": "1970-01-01"}, "before EDGAR's first year"),
        ({"file_date": "2099-01-01"}, "in the future"),
        ({"file_date": "yesterday"}, "is no date"),
        ({"adsh": "../etc"}, "is no accession number"),
        ({"form": None}, "there is no 'form'"),
        ({"form": " "}, "there is no form"),
    ],
)
def test_a_hit_that_cannot_be_is_refused_with_its_reason_and_without_names(
    lab: EdgarLab, fields: dict[str, Any], reason: str
) -> None:
    lab.filings[APPLE] = []
    broken = hit(4, "8-K", "2026-11-17")
    broken["_source"] |= fields
    lab.answers["/LATEST/search-index"] = {
        "hits": {
            "total": {"value": 2, "relation": "eq"},
            "hits": [broken, hit(5, "8-K", "2026-11-17")],
        }
    }

    found = search(lab)

    assert event(found)["source_id"] == "0000320193-26-000005"
    [row] = found.rejected.to_dict("records")
    assert tuple(found.rejected.columns) == REJECTED_COLUMNS
    assert reason in row["reason"]
    assert "Jane" not in repr(found.rejected.to_dict("records"))


# --- the source as a whole ----------------------------------------------------------------


def test_without_watched_symbols_of_the_market_nothing_is_asked(lab: EdgarLab) -> None:
    found = fetch(lab, watched=(Nameable(9, "asx", "BHP", "BHP Group"),))

    assert found.events.empty
    assert "watchlist" in found.metadata["empty_reason"]
    assert lab.requests == []


def test_the_findings_say_what_was_asked_and_came(lab: EdgarLab) -> None:
    lab.filings[APPLE] = [FORM_4, EARNINGS, filing(1, "CORRESP", "2026-11-18T10:00:00")]

    found = fetch(lab, watched=(AAPL, Nameable(10, "us", "NOFUND", "")))

    assert found.received == 3
    assert found.skipped == {"left out by the rules": 1}
    assert found.metadata == {
        "filings_by_form": {"4": 1, "8-K": 1, "CORRESP": 1},
        "symbols_asked": ["AAPL", "NOFUND"],
        "symbols_without_company": ["NOFUND"],
        "symbols_failed": {},
        "companies": 1,
        "filings_received": 3,
        "insider_statements_read": 1,
    }


def test_a_lone_half_of_a_character_can_be_stored(lab: EdgarLab) -> None:
    lab.filings[APPLE] = [EARNINGS | {"items": "", "primaryDocDescription": "up \ud83d"}]

    event(fetch(lab))["description"].encode()


def test_the_path_of_a_document_is_below_its_filing() -> None:
    [made], _ = parse_filings(arrays([FORM_4]), cik=APPLE, symbol="AAPL", origin="", now=NOW)
    plain: Filing = replace(made, document="primary_doc.xml")

    assert document_path(made) == DOCUMENT
    assert document_path(plain) == DOCUMENT.replace("form4", "primary_doc")
