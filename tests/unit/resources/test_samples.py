"""Hand-written samples: each host answers in its format, and shows nothing of later."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from scizor_resources.samples import wire
from scizor_resources.samples.days import METRIC_DAYS, SAMPLE_DAYS
from scizor_resources.samples.server import SampleServer, respond
from scizor_resources.samples.wire import Answer, value_of

AFTER_ALL = datetime(2026, 6, 1, tzinfo=UTC)
MSFT_DAY = datetime(2022, 5, 24, 23, tzinfo=UTC)
X_WINDOW = "start_time=2022-05-24T00:00:00Z&end_time=2022-05-25T00:00:00Z"
ARTICLES = "/coinspot_announcements/api/v2/help_center/en-us/categories/115000579994/articles.json"
STATEMENT = "/edgar_www/Archives/edgar/data/789019/000000000022000004/form4.xml"
CHART = "a=BTC&a=ETH&s=1777680000&u=1777766400&i=24h"
SNAPSHOT = {
    "chains": ["ethereum"],
    "order_by": [{"field": "net_flow_24h_usd", "direction": "DESC"}],
    "pagination": {"page": 1, "per_page": 2},
}
SEARCH = {"q": '"Microsoft" OR "BHP"', "from_": "2022-01-17T00:00:00", "to_": "2022-01-18T00:00:00"}


def ask(target: str, body: Any = None, now: datetime = AFTER_ALL) -> Answer:
    return respond(target, b"" if body is None else json.dumps(body).encode(), now)


@pytest.fixture(name="server")
def _server() -> Iterator[SampleServer]:
    server = SampleServer()
    server.start()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/defillama/protocol/aave", "chainTvls"),
        ("/defillama/summary/fees/aave?dataType=dailyFees", "totalDataChart"),
        ("/defillama/summary/fees/aave?dataType=dailyRevenue", "totalDataChart"),
        ("/defillama/summary/dexs/uniswap", "totalDataChart"),
        (f"/glassnode/v1/metrics/market/mvrv/bulk?{CHART}", "data"),
        ("/cryptopanic/posts/?currencies=BTC&page=1", "results"),
        ("/finnhub/calendar/earnings?from=2022-05-24&to=2022-05-24", "earningsCalendar"),
        ("/reddit_www/api/v1/access_token", "access_token"),
        ("/reddit/r/stocks/new?limit=100", "data"),
        (f"/x/2/tweets/search/recent?query=$MSFT&{X_WINDOW}", "data"),
        ("/edgar/submissions/CIK0000789019.json", "filings"),
        ("/edgar_www/files/company_tickers.json", "0"),
        ('/edgar_search/LATEST/search-index?q="repurchase"&ciks=0000789019', "hits"),
        (ARTICLES, "articles"),
    ],
)
def test_each_host_answers_in_its_format(target: str, field: str) -> None:
    answer = ask(target)
    assert (answer.status, bool(answer.body[field])) == (200, True)


@pytest.mark.parametrize(
    "target",
    [
        "/defillama/v2/historicalChainTvl/Ethereum",
        "/defillama_stablecoins/stablecoincharts/all",
        f"/glassnode/v1/metrics/market/mvrv?{CHART}",
        "/finnhub/company-news?symbol=MSFT&from=2022-05-24&to=2022-05-24",
    ],
)
def test_some_answers_are_lists(target: str) -> None:
    answer = ask(target)
    assert (answer.status, answer.body != []) == (200, True)


@pytest.mark.parametrize("table", ["netflow", "holdings"])
def test_nansen_gives_its_tables_page_by_page(table: str) -> None:
    order = {"field": "net_flow_24h_usd" if table == "netflow" else "value_usd"}
    answer = ask(f"/nansen/smart-money/{table}", {**SNAPSHOT, "order_by": [order]})
    assert len(answer.body["data"]) == 2
    assert answer.body["pagination"]["is_last_page"] is False


def test_newscatcher_finds_articles_by_phrases_and_days() -> None:
    answer = ask("/newscatcher/api/search", SEARCH)
    titles = [article["title"] for article in answer.body["articles"]]
    assert titles == [
        "BHP raises copper guidance after record quarter in Chile",
        "BHP iron ore output falls as heavy rain hits Pilbara mines",
    ]


def test_a_statement_of_an_insider_is_xml_with_its_purchases() -> None:
    root = ET.fromstring(ask(STATEMENT).body)
    shares = [each.text for each in root.iterfind(".//transactionShares/value")]
    assert shares == ["4000", "1000"]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/binance/api",
        "/defillama/protocol/none",
        "/defillama_stablecoins/stablecoincharts/None",
        "/glassnode/v1/metrics/market/none",
        "/cryptopanic/none",
        "/newscatcher/none",
        "/nansen/none",
        "/finnhub/none",
        "/reddit/none",
        "/reddit_www/none",
        "/x/none",
        "/edgar/submissions/CIK0000000001.json",
        "/edgar_www/none",
        "/edgar_search/none",
        "/coinspot_announcements/none",
    ],
)
def test_an_unknown_path_is_not_found(target: str) -> None:
    assert ask(target).status == 404


@pytest.mark.parametrize(
    "target", ["/at/yesterday/reddit/r/stocks/new", "/nansen/smart-money/netflow"]
)
def test_what_cannot_be_read_is_refused(target: str) -> None:
    assert ask(target).status == 400


def test_nothing_is_shown_before_its_time() -> None:
    before = ask("/at/20220524T150000Z/reddit/r/stocks/new").body["data"]["children"]
    after = ask("/at/20220524T210000Z/reddit/r/stocks/new").body["data"]["children"]
    assert ([each["data"]["id"] for each in before], [each["data"]["id"] for each in after]) == (
        ["s00006"],
        ["s00007", "s00006"],
    )


def test_an_edit_shows_from_its_time_on() -> None:
    edits = []
    for clock in ("20220117T024500Z", "20220117T031500Z"):
        found = ask(f"/at/{clock}/reddit/r/ASX_Bets/new").body["data"]["children"]
        edits += [each["data"]["edited"] for each in found if each["data"]["id"] == "s00002"]
    assert edits == [False, datetime(2022, 1, 17, 3, tzinfo=UTC).timestamp()]


def test_earnings_have_no_figures_before_they_are_reported() -> None:
    path = "finnhub/calendar/earnings?symbol=MSFT&from=2022-05-20&to=2022-05-30"
    figures = [
        ask(f"/at/{clock}/{path}").body["earningsCalendar"][0]["epsActual"]
        for clock in ("20220524T190000Z", "20220524T210000Z")
    ]
    assert figures == [None, 2.31]


def test_acceptance_is_written_in_eastern_digits() -> None:
    recent = ask("/edgar/submissions/CIK0000789019.json").body["filings"]["recent"]
    place = recent["accessionNumber"].index("0000000000-22-000003")
    # 20:05:10 UTC in May is 16:05:10 in New York.
    assert recent["acceptanceDateTime"][place] == "2022-05-24T16:05:10.000Z"


def test_fundamentals_have_a_value_for_each_of_forty_days() -> None:
    chart = ask("/defillama/summary/dexs/uniswap").body["totalDataChart"]
    days = [datetime.fromtimestamp(at, tz=UTC).date() for at, _ in chart]
    assert days == [METRIC_DAYS[0] + timedelta(days=n) for n in range(40)]
    assert dict(zip(days, (value for _, value in chart), strict=True))[date(2026, 5, 2)] == 2.08e9


def test_a_day_between_two_written_values_lies_between_them() -> None:
    anchors = {"2026-01-01": 100.0, "2026-01-11": 200.0}
    # Half way, give or take a hundredth.
    assert value_of(anchors, date(2026, 1, 6)) == pytest.approx(150.0, rel=0.0101)


def test_there_is_no_value_beyond_the_written_ones() -> None:
    with pytest.raises(ValueError, match="no sample value of 2027-01-01"):
        value_of({"2026-01-01": 1.0, "2026-01-02": 2.0}, date(2027, 1, 1))


def test_each_sample_day_has_items_and_none_is_later() -> None:
    files = (Path(wire.__file__).parent / "data").glob("*.json")
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    days = {date.fromisoformat(day) for day in re.findall(r'"at": "(\d{4}-\d\d-\d\d)T', text)}
    assert set(SAMPLE_DAYS) <= days
    assert max(days) == SAMPLE_DAYS[-1]


def test_addresses_are_of_no_real_site() -> None:
    files = (Path(wire.__file__).parent / "data").glob("*.json")
    urls = [
        url for path in files for url in re.findall(r"https?://([^/\"]+)", path.read_text("utf-8"))
    ]
    assert {host for host in urls if not host.endswith(".example")} == {"x.com"}


def test_the_server_answers_over_loopback_as_of_an_instant(server: SampleServer) -> None:
    address = server.address("reddit", MSFT_DAY)
    with httpx.Client(trust_env=False) as client:
        answer = client.get(f"{address}/r/stocks/new")
        refused = client.get(f"{server.url}/unknown/path")
    assert address.startswith("http://127.0.0.1:")
    assert len(answer.json()["data"]["children"]) == 2
    assert (refused.status_code, refused.headers["content-type"]) == (404, "application/json")


def test_documents_come_as_xml(server: SampleServer) -> None:
    with httpx.Client(trust_env=False) as client:
        answer = client.get(server.url + STATEMENT)
    assert answer.headers["content-type"].startswith("text/xml")


def test_starting_twice_keeps_the_address(server: SampleServer) -> None:
    first = server.url
    server.start()
    assert server.url == first


def test_a_closed_server_answers_no_more() -> None:
    server = SampleServer()
    url = server.url
    server.close()
    server.close()
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ConnectError):
        client.get(url)
