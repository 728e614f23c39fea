"""What is special to CoinSpot's announcements: titles, coins, JSON first, pages, the browser.

Answers are written by hand; see the lab.
"""

import sys
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from scizor_core.catalysts import CatalystRule, RuleTable
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import validate_catalysts
from scizor_resources.errors import AuthError, RateLimited, SchemaDrift, TransientError
from scizor_resources.providers.coinspot_announcements.client import (
    ARTICLES_ENDPOINT,
    CATEGORY_ENDPOINT,
)
from scizor_resources.providers.coinspot_announcements.events import form_of, tickers_of
from scizor_resources.providers.gate import Gate
from tests.contract.lab.coinspot_announcements_ledger import (
    NAME,
    SECTION,
    CoinspotAnnouncementsLab,
    fetch,
)
from tests.contract.lab.ledgers import SINCE, UNTIL, Item
from tests.contract.lab.server import HTML_PAGE, Reply

MORNING = SINCE + timedelta(hours=9, minutes=15, seconds=20)
HTML = {"Content-Type": "text/html"}
CHALLENGE = Reply(HTML_PAGE, 403, HTML)
PEPE = Nameable(7, "crypto", "PEPE/USD"), Nameable(8, "crypto", "PEPE/AUD")
BONK = (Nameable(9, "crypto", "BONK/USD"),)


@pytest.fixture
def lab() -> Iterator[CoinspotAnnouncementsLab]:
    with CoinspotAnnouncementsLab() as running:
        yield running


@pytest.fixture
def gate() -> Gate:
    return Gate(NAME, sleep=lambda _seconds: None)


def item(number: int, text: str = "An announcement", hours: float = 9) -> Item:
    return Item(str(number), SINCE + timedelta(hours=hours), text)


def opened(lab: CoinspotAnnouncementsLab) -> list[str]:
    """Return the numbers of the articles whose pages were asked for, in order."""
    paths = [seen.path for seen in lab.requests if "/articles/" in seen.path]
    return [path.rpartition("/")[2].partition("-")[0] for path in paths]


# --- titles -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "form"),
    [
        ("New Listing: Pepe (PEPE)", "listing"),
        ("Pepe (PEPE) now available on CoinSpot", "listing"),
        ("We have added Lido Staked Ether (stETH)", "listing"),
        ("10 new coins to trade", "listing"),
        ("PancakeSwap (CAKE) is now live", "listing"),
        ("CoinSpot Mastercard now available", "announcement"),
        ("Delisting of Luna Classic (LUNC)", "delisting"),
        ("Removal of Bitcoin Gold (BTG) from new listings", "delisting"),
        ("Polygon (MATIC) to POL migration: deposits suspended", "migration"),
        ("Ethereum hard fork", "migration"),
        ("Solana (SOL) withdrawals suspended", "trading_suspended"),
        ("Solana (SOL) withdrawals have resumed", "trading_resumed"),
        ("Scheduled maintenance (9PM AEST)", "maintenance"),
        ("New staking coins: Sui (SUI)", "staking"),
        ("Holiday hours", "announcement"),
    ],
)
def test_a_title_says_what_an_announcement_is(title: str, form: str) -> None:
    assert form_of(title) == form


@pytest.mark.parametrize(
    ("title", "tickers"),
    [
        ("Pepe (PEPE) now available", ("PEPE",)),
        ("Pepe (PEPE) and 1inch (1INCH), Sonic ($S)", ("PEPE", "1INCH", "S")),
        ("New coins (PEPE, BONK & WIF)", ("PEPE", "BONK", "WIF")),
        ("Lido Staked Ether (stETH)", ("STETH",)),
        ("Pepe (PEPE) and again (PEPE)", ("PEPE",)),
        ("Maintenance (AEST) (2FA) (10PM) (Completed) (2026) (see below)", ()),
        ("PayID (PayID) and AUD (AUD)", ()),
    ],
)
def test_codes_of_coins_stand_in_brackets(title: str, tickers: tuple[str, ...]) -> None:
    assert tickers_of(title) == tickers


# --- events -------------------------------------------------------------------------------


def test_a_listing_is_an_event_of_every_known_instrument_of_the_coin(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items = [Item("4403", MORNING, "New listing: Pepe (PEPE)")]

    found = fetch(lab, gate, coins={"PEPE": PEPE})

    events = validate_catalysts(found.events)
    assert list(events["instrument_id"]) == [7, 8]
    first = events.iloc[0]
    assert (first["type"], first["form"], first["items"]) == ("listing", "listing", "PEPE")
    assert first["source_id"] == "4403"
    assert first["url"] == "https://coinspot.zendesk.com/hc/en-us/articles/4403-An-announcement"
    assert first["published_at"] == MORNING
    assert first["accepted_text"] == "2026-11-18T09:15:20Z"
    assert first["first_tradable_at"] == SINCE + timedelta(hours=9, minutes=16)
    assert found.new_coins == ()


def test_a_coin_that_is_not_known_is_told_as_new(lab: CoinspotAnnouncementsLab, gate: Gate) -> None:
    lab.items = [item(1, "New listings: Pepe (PEPE), Bonk (BONK), Dogwifhat (WIF)")]

    found = fetch(lab, gate, coins={"BONK": BONK})

    assert list(found.events["instrument_id"]) == [9]
    assert found.new_coins == ("PEPE", "WIF")


def test_an_announcement_without_a_known_coin_is_a_row_without_instrument(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items = [item(1, "Scheduled maintenance"), item(2, "Pepe (PEPE) withdrawals suspended")]

    found = fetch(lab, gate)

    events = validate_catalysts(found.events)
    assert events["instrument_id"].isna().all()
    assert events["first_tradable_at"].isna().all()
    assert found.new_coins == ()


def test_text_is_kept_without_html_and_not_longer_than_a_thousand_characters(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items = [item(1), item(2), item(3)]
    lab.bodies = {
        "1": "<p>Hi&nbsp;<b>all</b></p><script>steal()</script><!-- x --><style>p{}</style>",
        "2": "<p>" + "long " * 1_000 + "</p>",
        "3": "https://example.com",
    }

    texts = dict(fetch(lab, gate).events[["source_id", "description"]].to_numpy())

    assert texts["1"] == "Hi all"
    assert len(texts["2"]) == 1_000
    assert texts["3"] == "https://example.com"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pages_only", [False, True], ids=["JSON", "pages"])
@pytest.mark.parametrize("part", ["<a ", "<a b='>", "<!-- >", "<![", "<p>"])
def test_broken_markup_does_not_hold_up_the_reading(
    lab: CoinspotAnnouncementsLab, gate: Gate, part: str, pages_only: bool
) -> None:
    lab.pages_only, lab.items = pages_only, [item(1)]
    lab.bodies = {"1": "<p>Up</p>" + part * (100_000 // len(part))}

    found = fetch(lab, gate)

    assert found.events["description"][0].startswith("Up")


def test_half_of_a_pair_of_surrogates_costs_nothing_else(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items, lab.bodies = [item(1)], {"1": "<p>Up \ud83d and\0 away</p>"}

    assert fetch(lab, gate).events["description"][0] == "Up ? and away"


def test_what_a_user_has_ruled_out_is_counted_and_no_event(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items = [item(1, "Holiday hours"), item(2, "New listing: Pepe (PEPE)")]
    table = RuleTable(
        [
            CatalystRule("listing", "", "listing", "Listing", 8, NAME),
            CatalystRule("*", "", "announcement", "Other", None, NAME),
        ]
    )

    found = fetch(lab, gate, table=table)

    assert list(found.events["source_id"]) == ["2"]
    assert found.skipped == {"left out by the rules": 1}


# --- JSON ---------------------------------------------------------------------------------


def test_the_list_is_asked_for_newest_first_until_it_is_older_than_the_window(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items = [item(n, hours=-10 * n) for n in range(1, 9)] + [item(99)]
    lab.page_size = 2

    found = fetch(lab, gate)

    assert list(found.events["source_id"]) == ["99"]
    assert [seen.path for seen in lab.requests] == [ARTICLES_ENDPOINT]
    assert lab.requests[0].query == {
        "sort_by": "created_at",
        "sort_order": "desc",
        "per_page": "100",
        "page": "1",
    }


def test_of_the_next_address_only_the_number_is_used(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items = [item(n, hours=n) for n in range(1, 6)]
    lab.page_size = 2

    found = fetch(lab, gate)

    assert len(found.events) == 5
    assert [seen.query["page"] for seen in lab.requests] == ["1", "2", "3"]
    assert {seen.query["per_page"] for seen in lab.requests} == {"100"}


def test_a_page_that_repeats_ends_the_list(lab: CoinspotAnnouncementsLab, gate: Gate) -> None:
    page = {
        "count": 1,
        "next_page": "https://coinspot.zendesk.com/x?page=7",
        "articles": [{"id": 5, "title": "Hours", "body": "", "created_at": "2026-11-18T10:00:00Z"}],
    }
    lab.refusals = {ARTICLES_ENDPOINT: Reply(page)}

    found = fetch(lab, gate)

    assert [seen.query["page"] for seen in lab.requests] == ["1", "7"]
    assert list(found.events["url"]) == [f"{lab.url}/hc/en-us/articles/5"]
    assert found.metadata["complete"]


def test_a_list_that_ends_before_its_count_is_said(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items, lab.capped = [item(1)], True

    found = fetch(lab, gate)

    assert "10001 articles, but it ends after 1" in found.notes[0]
    assert not found.metadata["complete"]


def test_drafts_are_skipped_and_counted(lab: CoinspotAnnouncementsLab, gate: Gate) -> None:
    lab.items = [item(1), Item("2", MORNING, "A draft", deleted=True)]

    found = fetch(lab, gate)

    assert list(found.events["source_id"]) == ["1"]
    assert found.skipped == {"drafts": 1}


def test_an_edit_changes_the_text_and_not_the_time(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.items, lab.edited = [item(1, "Corrected")], {"1": UNTIL}

    found = fetch(lab, gate)

    assert list(found.events["published_at"]) == [SINCE + timedelta(hours=9)]


def test_a_page_that_fails_later_leaves_what_came(
    lab: CoinspotAnnouncementsLab, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.items, lab.page_size = [item(n, hours=n) for n in range(1, 4)], 2
    answer = lab.respond
    monkeypatch.setattr(
        lab,
        "respond",
        lambda seen: lab.error("rate_limited") if seen.query["page"] == "2" else answer(seen),
    )

    found = fetch(lab, gate)

    assert list(found.events["source_id"]) == ["2", "3"]
    assert isinstance(found.failure, RateLimited)
    assert not found.metadata["complete"]


@pytest.mark.parametrize(
    "stamp", ["2026-11-18T10:00:00", "yesterday", None, "0001-01-01T00:00:00+10:00"]
)
def test_a_time_that_cannot_be_read_costs_only_its_own_article(
    lab: CoinspotAnnouncementsLab, gate: Gate, stamp: str | None
) -> None:
    sound = {"id": 5, "title": "Hours", "body": None, "created_at": "2026-11-18T10:00:00Z"}
    rows = [sound, {**sound, "id": 6, "created_at": stamp}]
    lab.refusals = {ARTICLES_ENDPOINT: Reply({"articles": rows, "next_page": None})}

    found = fetch(lab, gate)

    assert list(found.events["source_id"]) == ["5"]
    assert [row["id"] for row in found.rejected["payload"]] == ["6"]


# --- pages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        CHALLENGE,
        Reply({"error": "RecordNotFound", "description": "Not found"}, 404),
        Reply(HTML_PAGE, 200, HTML),
        Reply(HTML_PAGE, 503, HTML),
    ],
    ids=["403", "404", "a page", "a page with 503"],
)
def test_where_json_is_refused_the_pages_are_read(
    lab: CoinspotAnnouncementsLab, gate: Gate, refusal: Reply
) -> None:
    lab.items = [Item("4403", MORNING, "New listing: Pepe (PEPE)")]
    of_json = fetch(lab, gate, coins={"PEPE": PEPE}).events
    lab.requests.clear()
    lab.refusals = {ARTICLES_ENDPOINT: refusal}

    found = fetch(lab, gate, coins={"PEPE": PEPE})

    same = [name for name in of_json.columns if name != "url"]
    assert found.events[same].to_dict("records") == of_json[same].to_dict("records")
    assert list(found.events["url"]) == [f"{lab.url}/hc/en-us/articles/4403-An-announcement"] * 2
    assert "the pages were read" in found.notes[0]
    assert [seen.path for seen in lab.requests][:3] == [
        ARTICLES_ENDPOINT,
        CATEGORY_ENDPOINT,
        SECTION,
    ]


def test_too_many_calls_are_no_reason_to_read_pages(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.refusals = {ARTICLES_ENDPOINT: lab.error("rate_limited")}

    with pytest.raises(RateLimited):
        fetch(lab, gate)

    assert {seen.path for seen in lab.requests} == {ARTICLES_ENDPOINT}


def test_pages_are_opened_until_five_in_a_row_are_older(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.pages_only, lab.pinned = True, ("30", "31")
    lab.items = [item(n, hours=-n) for n in range(10, 40)] + [item(1), item(2, hours=10)]

    found = fetch(lab, gate)

    assert set(found.events["source_id"]) == {"1", "2"}
    assert opened(lab) == ["30", "31", "2", "1", "10", "11", "12", "13", "14"]


def test_the_next_page_of_a_section_is_asked_for_only_when_it_is_needed(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.pages_only, lab.page_size = True, 6
    lab.items = [item(n, hours=-n) for n in range(10, 30)] + [item(n) for n in range(1, 8)]

    fetch(lab, gate)

    sections = [seen.query for seen in lab.requests if seen.path == SECTION]
    assert sections == [{}, {"page": "2"}]


def test_a_page_that_shows_the_time_of_an_edit_is_said(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.pages_only, lab.items = True, [item(1), item(2)]
    lab.edited = {"1": SINCE + timedelta(hours=12)}

    found = fetch(lab, gate)

    assert any(note.startswith("1 articles show the time of their last") for note in found.notes)


def test_times_in_a_text_are_not_the_articles(lab: CoinspotAnnouncementsLab, gate: Gate) -> None:
    lab.pages_only, lab.items = True, [item(1)]
    lab.bodies = {"1": '<p>From <time datetime="2026-11-17T01:00:00Z">then</time></p>'}

    found = fetch(lab, gate)

    assert list(found.events["published_at"]) == [SINCE + timedelta(hours=9)]


def test_an_article_without_a_time_is_refused(lab: CoinspotAnnouncementsLab, gate: Gate) -> None:
    lab.pages_only, lab.items = True, [item(1), item(2)]
    lab.refusals = {
        "/hc/en-us/articles/2-An-announcement": lab.page(
            '<h1 class="article-title">No time</h1><div class="article-body">x</div>'
        )
    }

    found = fetch(lab, gate)

    assert list(found.events["source_id"]) == ["1"]
    assert list(found.rejected["reason"]) == ["its page has no time[datetime]"]


@pytest.mark.parametrize("count", [1, 9])
def test_pages_of_articles_that_all_lack_a_part_are_drift(
    lab: CoinspotAnnouncementsLab, gate: Gate, count: int
) -> None:
    lab.pages_only, lab.items = True, [item(n) for n in range(count)]
    changed = lab.page('<h1 class="article-title">No time</h1><div class="text">x</div>')
    lab.refusals = {f"/hc/en-us/articles/{n}-An-announcement": changed for n in range(count)}

    with pytest.raises(SchemaDrift, match="time.datetime"):
        fetch(lab, gate)

    assert len(opened(lab)) == min(count, 3)


def test_an_article_that_is_gone_is_counted(lab: CoinspotAnnouncementsLab, gate: Gate) -> None:
    lab.pages_only, lab.items = True, [item(1), item(2)]
    lab.refusals = {"/hc/en-us/articles/2-An-announcement": Reply(b"<p>gone</p>", 404, HTML)}

    found = fetch(lab, gate)

    assert list(found.events["source_id"]) == ["1"]
    assert found.skipped == {"gone since the list was read": 1}
    assert found.failure is None


def test_an_article_that_fails_leaves_the_others(lab: CoinspotAnnouncementsLab, gate: Gate) -> None:
    lab.pages_only, lab.items = True, [item(1), item(2, hours=8)]
    lab.refusals = {"/hc/en-us/articles/2-An-announcement": lab.error("server_error")}

    found = fetch(lab, gate)

    assert list(found.events["source_id"]) == ["1"]
    assert isinstance(found.failure, TransientError)


def test_links_to_other_hosts_and_places_are_not_followed(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.pages_only, lab.items = True, [item(1)]
    links = "".join(
        f'<li class="article-list-item"><a class="article-list-link" href="{href}">x</a></li>'
        for href in ("https://evil.example/hc/en-us/articles/1-An-announcement", "/login", "//x/y")
    )
    lab.refusals = {SECTION: lab.page(links)}

    fetch(lab, gate)

    assert opened(lab) == ["1"]
    assert "/login" not in {seen.path for seen in lab.requests}


# --- the browser --------------------------------------------------------------------------


def test_where_pages_are_refused_too_the_error_names_the_setting(
    lab: CoinspotAnnouncementsLab, gate: Gate
) -> None:
    lab.inject("invalid_credentials")

    with pytest.raises(AuthError, match="SCIZOR_COINSPOT_ANNOUNCEMENTS_BROWSER") as caught:
        fetch(lab, gate)

    assert caught.value.status == 403
    assert len(lab.requests) == 2


def test_a_browser_that_is_not_installed_is_said(
    lab: CoinspotAnnouncementsLab, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    lab.inject("invalid_credentials")

    with pytest.raises(AuthError, match=r"install the extra 'browser'.*playwright install"):
        fetch(lab, gate, browser=True)


class FakeBrowser:
    """Stands in for Playwright: shows each address as the lab would have shown it."""

    Error = RuntimeError

    def __init__(self, lab: CoinspotAnnouncementsLab) -> None:
        self.lab, self.addresses = lab, list[str]()
        self.chromium = SimpleNamespace(launch=lambda: self)
        self.sync_playwright = lambda: self

    def __enter__(self) -> "FakeBrowser":
        return self

    def __exit__(self, *_details: object) -> None:
        return None

    def new_page(self) -> "FakeBrowser":
        return self

    def goto(self, address: str, **_options: Any) -> None:
        self.addresses.append(address.removeprefix(self.lab.url))

    def content(self) -> str:
        seen: Any = SimpleNamespace(path=self.addresses[-1], query={})
        return self.lab.respond(seen).payload.decode()


def test_a_browser_reads_the_pages_if_that_is_asked_for(
    lab: CoinspotAnnouncementsLab, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = FakeBrowser(lab)
    monkeypatch.setitem(sys.modules, "playwright", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "playwright.sync_api", browser)
    lab.items = [item(1)]
    lab.inject("invalid_credentials")

    found = fetch(lab, gate, browser=True)

    assert list(found.events["source_id"]) == ["1"]
    assert browser.addresses == [
        CATEGORY_ENDPOINT,
        SECTION,
        "/hc/en-us/articles/1-An-announcement",
    ]
