"""Announcements as catalyst events: what they are by their title, and which coins they name."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from scizor_core.catalysts import CatalystRule, first_tradable_at
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import catalysts_frame
from scizor_core.sessions import get_calendar
from scizor_resources.providers.coinspot_announcements.articles import SOURCE_NAME, Article
from scizor_resources.providers.events import EventFindings, EventRequest

MARKET = "crypto"
LISTING = "listing"
#: What no pattern is for.
OTHER = "announcement"
LEFT_OUT = "left out by the rules"

#: Form -> pattern of titles; the first that fits counts. Delistings and migrations speak of
#: suspensions and new coins as well, so that they stand before them.
FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (form, re.compile(pattern, re.IGNORECASE))
    for form, pattern in (
        (
            "delisting",
            r"\bde-?list|\bremov(al|ing) of\b|\b(will be|being|been) removed\b|\bdiscontinu"
            r"|\bend of support\b|\bno longer (be )?(supported|available)\b|\bsunset",
        ),
        (
            "migration",
            r"\bmigrat|\brebrand|\bre-?denominat|\btoken swap\b|\bswap of\b|\bcontract swap\b"
            r"|\b(hard |soft )?fork\b|\bnetwork upgrade\b|\bmainnet (swap|upgrade)\b",
        ),
        (
            "trading_resumed",
            r"\bresum|\bre-?enabled?\b|\breinstated?\b|\bback online\b|\brestored\b",
        ),
        (
            "trading_suspended",
            r"\bsuspen|\bhalt|\bpaus(e|ed|ing)\b|\bdisabled?\b|\btemporarily unavailable\b",
        ),
        ("maintenance", r"\bmaintenance\b|\boutage\b|\bdowntime\b|\bdegraded\b|\bdelays?\b"),
        ("staking", r"\bstaking\b"),
        (
            LISTING,
            r"\blist(ed|ing|ings|s)?\b|\bnew (coins?|tokens?|assets?)\b|\bnow trading\b",
        ),
    )
)
#: Words of a listing only where the code of a coin stands with them: cards are available too.
_LISTING_OF_A_CODE = re.compile(
    r"\bnow (available|live|on coinspot|supported)\b|\badd(ed|ing|s)?\b|\bsupports?\b"
    r"|\blaunch(es|ed|ing)?\b|\bavailable\b",
    re.IGNORECASE,
)

_IN_BRACKETS = re.compile(r"\(([^()]{1,80})\)")
_BETWEEN = re.compile(r"\s*(?:[,/&+|]|\band\b)\s*", re.IGNORECASE)
#: Codes as exchanges write them: ABC, 1INCH, stETH.
_TICKER = re.compile(r"\$?(?=[a-zA-Z0-9]{1,15}$)([a-z]{1,2}[A-Z]{2,}|[A-Z0-9]*[A-Z][A-Z0-9]*)")
#: Zones, times, currencies and abbreviations that stand in brackets too.
_NO_TICKER = re.compile(
    r"\d{1,4}(AM|PM|HRS?|ST|ND|RD|TH|AEST|AEDT)|AEDT|AEST|API|ASIC|ATO|AUD|AUSTRAC|BST|CET"
    r"|COMPLETED?|DEFI|EDT|EOFY|EST|ETF|FAQ|GMT|IOS|KYC|MFA|NEW|NPP|OTC|PAYID|PDS|PDT|PST|RESOLVED"
    r"|SMS|SMSF|UPDATED?|URGENT|USA?|USD|UTC|2FA"
)


def form_of(title: str) -> str:
    """Return what an announcement is by its title: a form of `FORMS` or `OTHER`."""
    # A coin may be called anything: what stands in brackets is its code.
    words = _IN_BRACKETS.sub(" ", title)
    for form, pattern in FORMS:
        if pattern.search(words):
            return form
    return LISTING if _LISTING_OF_A_CODE.search(words) and tickers_of(title) else OTHER


def tickers_of(title: str) -> tuple[str, ...]:
    """Return the codes of coins that stand in brackets in a title, upper case, each once.

    `Pepe (PEPE) and Bonk (BONK)` and `New coins (PEPE, BONK)` have two; `(AEST)` is none.
    """
    found: dict[str, None] = {}
    for brackets in _IN_BRACKETS.findall(title):
        for word in _BETWEEN.split(brackets.strip()):
            match = _TICKER.fullmatch(word)
            if match is None:
                continue
            code = match[1].upper()
            if not _NO_TICKER.fullmatch(code):
                found[code] = None
    return tuple(found)


def findings_of(
    articles: Iterable[Article], request: EventRequest, *, detected_at: datetime
) -> EventFindings:
    """Return the events of articles that were published in a window.

    An article that names no coin the platform knows is one row without instrument.

    Args:
        articles: each once, of any time.
        request: the window, the rules, and the coins that the platform knows.
        detected_at: when the answers came, UTC.
    """
    records: list[dict[str, object]] = []
    skipped: Counter[str] = Counter()
    new_coins: set[str] = set()
    calendar = get_calendar(MARKET)
    for article in articles:
        if not request.since <= article.published_at < request.until:
            continue
        form, tickers = form_of(article.title), tickers_of(article.title)
        if form == LISTING:
            new_coins.update(code for code in tickers if not request.coins.get(code))
        rule = request.rules.match(form)
        if rule is None:
            skipped[LEFT_OUT] += 1
            continue
        tradable = first_tradable_at(article.published_at, calendar)
        known = _instruments(tickers, request) if tradable is not None else []
        instruments: list[int | None] = [*known] or [None]
        records += [
            {
                **_event(article, form, tickers, rule),
                "instrument_id": instrument_id,
                "first_tradable_at": None if instrument_id is None else tradable,
                "detected_at": detected_at,
            }
            for instrument_id in instruments
        ]
    return EventFindings(
        events=catalysts_frame(records),
        skipped=dict(skipped),
        new_coins=tuple(sorted(new_coins)),
    )


def _instruments(tickers: Iterable[str], request: EventRequest) -> list[int]:
    found: tuple[Nameable, ...] = tuple(
        each for code in tickers for each in request.coins.get(code, ())
    )
    return sorted({each.instrument_id for each in found})


def _event(
    article: Article, form: str, tickers: tuple[str, ...], rule: CatalystRule
) -> dict[str, object]:
    return {
        "source": SOURCE_NAME,
        "source_id": article.id,
        "type": rule.type,
        "title": article.title,
        "description": article.text,
        "url": article.url,
        "form": form,
        "items": ",".join(tickers),
        "filing_date": None,
        "report_date": None,
        "accepted_text": article.time_text,
        "published_at": article.published_at,
        "impact": rule.impact,
        "is_amendment": False,
        "amends": "",
    }
