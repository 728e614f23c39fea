"""GlassnodeMetrics against its lab. Payloads are written by hand after recorded ones."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr

from scizor_core.errors import InvalidInputError
from scizor_core.schemas.on_chain import ON_CHAIN_COLUMNS, validate_on_chain
from scizor_resources.errors import AuthError, BadRequest, RateLimited, SchemaDrift, TransientError
from scizor_resources.providers.base import REJECTED_COLUMNS
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.glassnode.client import GlassnodeMetrics
from scizor_resources.providers.metrics import MetricBatch
from tests.contract.lab.glassnode_ledger import KEY, GlassnodeLab, epoch, refused
from tests.contract.lab.server import Reply

#: Half past ten in the morning of the running day.
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
THURSDAY, FRIDAY, TODAY, TOMORROW = (date(2026, 11, day) for day in (19, 20, 21, 22))
MVRV, ACTIVE = "market/mvrv", "addresses/active_count"


def point(at: str, value: Any) -> dict[str, Any]:
    return {"t": epoch(at), "v": value}


def bulk(at: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {"t": epoch(at), "bulk": list(rows)}


@pytest.fixture
def lab() -> Iterator[GlassnodeLab]:
    with GlassnodeLab() as running:
        running.points[MVRV, "BTC"] = [point("2026-11-19", 1.5), point("2026-11-20", 1.75)]
        yield running


@pytest.fixture
def glassnode(lab: GlassnodeLab) -> Iterator[GlassnodeMetrics]:
    made = GlassnodeMetrics(
        Gate("glassnode", sleep=lambda _seconds: None),
        base_url=lab.url,
        key=SecretStr(KEY),
        timeout_seconds=2.0,
        now=lambda: NOW,
    )
    yield made
    made.close()


def fetch(glassnode: GlassnodeMetrics, *assets: str, resolution: str = "24h") -> MetricBatch:
    return glassnode.fetch([MVRV], assets or ["BTC"], THURSDAY, TOMORROW, resolution)


def by_asset(batch: MetricBatch) -> dict[tuple[str, str], list[float]]:
    return {
        (str(asset), str(chain)): list(rows["value"])
        for (asset, chain), rows in batch.values.groupby(["asset", "chain"])
    }


# --- one asset ----------------------------------------------------------------------------


def test_a_point_is_the_value_of_the_interval_that_starts_then(
    glassnode: GlassnodeMetrics,
) -> None:
    batch = glassnode.fetch([MVRV], ["btc"], FRIDAY, TODAY)

    assert tuple(batch.values.columns) == ON_CHAIN_COLUMNS
    assert batch.values.to_dict("records") == [
        {
            "source": "glassnode",
            "metric": "market/mvrv",
            "asset": "BTC",
            "asset_id": "",
            "chain": "",
            "resolution": "24h",
            "ts": pd.Timestamp("2026-11-20", tz="UTC"),
            "value": 1.75,
            "is_final": True,
            "observed_at": pd.Timestamp(NOW),
        }
    ]
    assert validate_on_chain(batch.values) is not None


def test_the_window_is_asked_for_in_epoch_seconds(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    fetch(glassnode)

    (seen,) = lab.requests
    assert (seen.method, seen.path) == ("GET", "/v1/metrics/market/mvrv")
    # date -u -d 2026-11-19 +%s and so on.
    assert seen.query == {
        "a": "BTC",
        "s": "1795046400",
        "u": "1795305600",
        "i": "24h",
        "f": "JSON",
        "timestamp_format": "unix",
    }
    assert seen.headers["x-api-key"] == KEY


@pytest.mark.parametrize(
    ("resolution", "at", "is_final"),
    [
        ("24h", "2026-11-20", True),
        ("24h", "2026-11-21", False),
        ("1h", "2026-11-21T09:00", True),
        ("1h", "2026-11-21T10:00", False),
        ("10m", "2026-11-21T10:20", True),
        ("10m", "2026-11-21T10:30", False),
    ],
)
def test_an_interval_that_ran_when_it_was_asked_for_is_partial(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics, resolution: str, at: str, is_final: bool
) -> None:
    lab.points[MVRV, "BTC"] = [point(at, 1.5)]

    assert list(fetch(glassnode, resolution=resolution).values["is_final"]) == [is_final]


def test_a_point_without_a_value_is_counted_and_no_zero(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.points[MVRV, "BTC"] = [
        point("2026-11-19", None),
        point("2026-11-20", 0),
        point("2026-11-21", None),
    ]

    batch = fetch(glassnode)

    assert list(batch.values["value"]) == [0.0]
    assert batch.rejected.empty
    assert batch.notes == ["market/mvrv BTC: 2 points without a value"]


def test_only_points_without_a_value_are_an_empty_answer_with_that_reason(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.points[MVRV, "BTC"] = [point("2026-11-20", None)]

    batch = fetch(glassnode)

    assert batch.values.empty
    assert "1 points without one" in batch.empty_reasons["market/mvrv BTC"]


def test_parts_of_an_object_are_metrics_of_their_own(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    parts = {"exchanges": 2.5, "miners": -1, "lost": None}
    lab.points[MVRV, "BTC"] = [{"t": epoch("2026-11-20"), "o": parts}]

    batch = fetch(glassnode)

    assert dict(zip(batch.values["metric"], batch.values["value"], strict=True)) == {
        "market/mvrv.exchanges": 2.5,
        "market/mvrv.miners": -1.0,
    }
    assert batch.notes == ["market/mvrv BTC: 1 points without a value"]


def test_only_intervals_asked_for_come_back(lab: GlassnodeLab, glassnode: GlassnodeMetrics) -> None:
    lab.points[MVRV, "BTC"] = [point(f"2026-11-{day}", 1.0) for day in (18, 19, 20, 21)]

    batch = glassnode.fetch([MVRV], ["BTC"], THURSDAY, FRIDAY)

    assert list(batch.values["ts"]) == [pd.Timestamp("2026-11-19", tz="UTC")]


def test_of_a_point_that_comes_twice_the_later_one_counts(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.points[MVRV, "BTC"] = [point("2026-11-20", 1.0), point("2026-11-20", 2.0)]

    assert list(fetch(glassnode).values["value"]) == [2.0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("12.5", "not a number"),
        (True, "not a number"),
        ([1.0], "not a number"),
        (float("nan"), "not a finite number"),
        (float("-inf"), "not a finite number"),
        (10**400, "not a finite number"),
    ],
    ids=["text", "truth", "list", "nan", "infinity", "too large"],
)
def test_a_value_that_is_no_number_is_refused_with_its_reason_and_the_rest_kept(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics, value: Any, reason: str
) -> None:
    lab.points[MVRV, "BTC"] = [point("2026-11-19", value), point("2026-11-20", 7)]

    batch = fetch(glassnode)

    assert list(batch.values["value"]) == [7.0]
    (row,) = batch.rejected.to_dict("records")
    assert tuple(batch.rejected.columns) == REJECTED_COLUMNS
    assert reason in row["reason"]
    assert (row["symbol"], row["origin"], row["row_number"]) == (
        "BTC",
        "/v1/metrics/market/mvrv",
        1,
    )


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (0, "before the first block"),
        (epoch("2026-11-22"), "in the future"),
        (epoch("2026-11-20") * 1000, "no number of seconds"),  # milliseconds: the year 58,859
        (epoch("2026-11-20T00:00:01"), "no 24h interval starts then"),
        (None, "no number of seconds"),
        ("2026-11-20T00:00:00Z", "no number of seconds"),
    ],
)
def test_a_time_that_cannot_be_is_refused_with_its_reason(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics, seconds: Any, reason: str
) -> None:
    lab.points[MVRV, "BTC"] = [{"t": seconds, "v": 5}, point("2026-11-20", 7)]

    batch = fetch(glassnode)

    assert list(batch.values["value"]) == [7.0]
    assert reason in batch.rejected["reason"].iloc[0]


@pytest.mark.parametrize("odd", [{"t": 1}, {"v": 2.0}, [1, 2.0], None])
def test_one_point_that_lacks_a_field_costs_only_itself(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics, odd: Any
) -> None:
    lab.points[MVRV, "BTC"].append(odd)

    batch = fetch(glassnode)

    assert list(batch.values["value"]) == [1.5, 1.75]
    assert list(batch.rejected["row_number"]) == [3]


@pytest.mark.parametrize(
    "answer",
    [{"data": []}, "none", [{"time": 1, "v": 2}], [{"t": 1, "value": 2}], [[1, 2.0]]],
    ids=["object", "text", "renamed time", "renamed value", "pairs"],
)
def test_a_changed_shape_is_schema_drift(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics, answer: Any
) -> None:
    lab.answers["/v1/metrics/market/mvrv"] = Reply(answer)

    batch = fetch(glassnode)

    assert isinstance(batch.failure, SchemaDrift)
    assert batch.values.empty
    assert batch.empty_reasons == {}


# --- many assets --------------------------------------------------------------------------


def test_several_assets_come_by_one_call_and_a_network_becomes_the_chain(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.bulk[MVRV] = [
        bulk("2026-11-19", {"a": "BTC", "v": 1.5}, {"a": "ETH", "network": "eth", "v": 2.5}),
        bulk("2026-11-20", {"a": "BTC", "v": 1.75}, {"a": "ETH", "network": "eth", "v": None}),
    ]

    batch = fetch(glassnode, "BTC", "ETH")

    assert by_asset(batch) == {("BTC", ""): [1.5, 1.75], ("ETH", "eth"): [2.5]}
    assert batch.notes == ["market/mvrv ETH: 1 points without a value"]
    assert lab.asked == [("/v1/metrics/market/mvrv/bulk", ["BTC", "ETH"])]


def test_an_asset_on_two_networks_has_a_series_on_each(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    rows = [
        {"a": "USDC", "network": network, "v": value}
        for network, value in (("eth", 1), ("base", 2))
    ]
    lab.bulk[MVRV] = [bulk("2026-11-20", *rows, {"a": "XYZ", "v": 9})]

    batch = fetch(glassnode, "BTC", "USDC")

    assert by_asset(batch) == {("USDC", "eth"): [1.0], ("USDC", "base"): [2.0]}
    assert "no value" in batch.empty_reasons["market/mvrv BTC"]


def test_a_bulk_window_is_split_into_what_one_call_may_span(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.bulk[MVRV] = [bulk("2026-11-20", {"a": "BTC", "v": 1.5})]

    batch = glassnode.fetch([MVRV], ["BTC", "ETH"], date(2026, 9, 20), TODAY)

    days = [(int(each.query["u"]) - int(each.query["s"])) // 86_400 for each in lab.requests]
    assert days == [31, 31]
    assert lab.requests[0].query["u"] == lab.requests[1].query["s"]
    assert by_asset(batch) == {("BTC", ""): [1.5]}


@pytest.mark.parametrize(
    "refusal",
    [
        refused("Not found", 404),
        refused("metric has no bulk", 400),
        refused("not in your plan", 403),
    ],
    ids=["unknown path", "bad request", "smaller plan"],
)
def test_where_there_is_no_bulk_call_assets_are_asked_for_one_by_one_from_then_on(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics, refusal: Reply
) -> None:
    lab.answers["/v1/metrics/market/mvrv/bulk"] = refusal
    lab.points[MVRV, "ETH"] = [point("2026-11-20", 2.5)]

    first, again = fetch(glassnode, "BTC", "ETH"), fetch(glassnode, "BTC", "ETH")

    assert by_asset(first) == by_asset(again) == {("BTC", ""): [1.5, 1.75], ("ETH", ""): [2.5]}
    assert [path.rpartition("/")[2] for path, _ in lab.asked] == ["bulk"] + ["mvrv"] * 4
    assert first.failure is None


def test_a_bulk_answer_by_exchange_is_not_taken_for_one_by_asset(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    rows = [{"a": "BTC", "e": exchange, "v": 9.0} for exchange in ("binance", "kraken")]
    lab.bulk[MVRV] = [bulk("2026-11-20", *rows)]

    batch = fetch(glassnode, "BTC", "ETH")

    assert by_asset(batch) == {("BTC", ""): [1.5, 1.75]}


def test_an_unknown_asset_does_not_keep_the_others_away(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    batch = fetch(glassnode, "BTC", "NOSUCH")

    assert by_asset(batch) == {("BTC", ""): [1.5, 1.75]}
    assert list(batch.unknown) == ["market/mvrv NOSUCH"]
    assert batch.failure is None


def test_nothing_known_at_all_is_an_error_that_names_the_settings(
    glassnode: GlassnodeMetrics,
) -> None:
    with pytest.raises(BadRequest, match="SCIZOR_GLASSNODE_METRICS"):
        glassnode.fetch(["no/such"], ["BTC", "ETH"], FRIDAY, TODAY)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"bulk": []},
        {"data": [{"t": 1, "values": []}]},
        {"data": [{"t": 1, "bulk": [{"asset": "BTC"}]}]},
        {"data": [{"t": 1, "bulk": {}}]},
    ],
    ids=["list", "no data", "renamed rows", "renamed asset", "object"],
)
def test_a_changed_shape_of_a_bulk_answer_is_never_an_empty_day(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics, answer: Any
) -> None:
    lab.answers["/v1/metrics/market/mvrv/bulk"] = Reply(answer)
    lab.answers["/v1/metrics/market/mvrv"] = Reply(answer or {})

    assert isinstance(fetch(glassnode, "BTC", "ETH").failure, SchemaDrift)


# --- errors -------------------------------------------------------------------------------


def test_a_metric_that_the_plan_does_not_have_does_not_keep_the_others_away(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.answers["/v1/metrics/addresses/active_count"] = refused("tier too low", 403)

    batch = glassnode.fetch([ACTIVE, MVRV], ["BTC"], THURSDAY, TOMORROW)

    assert by_asset(batch) == {("BTC", ""): [1.5, 1.75]}
    assert list(batch.errors) == ["addresses/active_count BTC"]
    assert isinstance(batch.failure, AuthError)
    assert "plan" in str(batch.failure)


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (refused("exhausted", 402), AuthError, "quota (credits) of the plan is used up"),
        (Reply({"error": "API credits exhausted"}, 429), AuthError, "is used up"),
        (Reply({"message": "monthly quota reached"}, 403), AuthError, "is used up"),
        (refused("exhausted", 429), RateLimited, "may be used up"),
        (refused("api key invalid", 401), AuthError, "Check the key"),
    ],
    ids=["402", "429 with words", "403 with words", "429 without", "401"],
)
def test_what_would_meet_every_call_ends_the_asking(
    lab: GlassnodeLab,
    glassnode: GlassnodeMetrics,
    refusal: Reply,
    kind: type[Exception],
    words: str,
) -> None:
    lab.answers["/v1/metrics/market/mvrv/bulk"] = refusal

    batch = glassnode.fetch([MVRV, ACTIVE], ["BTC", "ETH"], THURSDAY, TOMORROW)

    assert isinstance(batch.failure, kind)
    assert words in str(batch.failure)
    assert len(lab.requests) == 1
    assert len(batch.errors) == 4


def test_a_minute_without_room_is_no_used_up_quota(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.inject("rate_limited")

    failure = fetch(glassnode).failure

    assert isinstance(failure, RateLimited)
    assert failure.retry_after == 41
    assert "quota" not in str(failure)


def test_a_bulk_call_that_fails_is_an_error_of_all_its_series(
    lab: GlassnodeLab, glassnode: GlassnodeMetrics
) -> None:
    lab.answers["/v1/metrics/market/mvrv/bulk"] = refused("internal server error", 500)

    batch = fetch(glassnode, "BTC", "ETH")

    assert isinstance(batch.failure, TransientError)
    assert list(batch.errors) == ["market/mvrv BTC", "market/mvrv ETH"]


def test_without_a_key_nothing_is_asked(lab: GlassnodeLab) -> None:
    keyless = GlassnodeMetrics(Gate("glassnode"), base_url=lab.url, now=lambda: NOW)

    with pytest.raises(AuthError, match="SCIZOR_GLASSNODE_API_KEY"):
        fetch(keyless)
    assert lab.requests == []


def test_a_resolution_that_is_not_kept_is_refused(glassnode: GlassnodeMetrics) -> None:
    with pytest.raises(InvalidInputError, match="10m, 1h, 24h"):
        fetch(glassnode, resolution="1w")


# --- recordings ---------------------------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")
recorded = pytest.mark.skipif(
    not (Path(RECORDINGS) / "glassnode").is_dir(),
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (glassnode/)",
)


def recording(name: str) -> Any:
    return json.loads((Path(RECORDINGS) / "glassnode" / name).read_text())


@recorded
def test_recorded_points_are_read(lab: GlassnodeLab, glassnode: GlassnodeMetrics) -> None:
    lab.answers["/v1/metrics/market/mvrv"] = Reply(recording("metric_points.json"))

    batch = glassnode.fetch([MVRV], ["BTC"], date(2009, 1, 3), date(2009, 1, 6))

    assert list(batch.values["ts"].dt.strftime("%Y-%m-%d")) == [
        "2009-01-03",
        "2009-01-04",
        "2009-01-05",
    ]
    assert set(batch.values["value"]) == {2.4755000000000003}
    assert batch.rejected.empty


@recorded
def test_a_recorded_bulk_answer_is_read(lab: GlassnodeLab, glassnode: GlassnodeMetrics) -> None:
    lab.answers["/v1/metrics/market/mvrv/bulk"] = Reply(recording("metric_bulk.json"))

    batch = glassnode.fetch([MVRV], ["BTC", "ETH"], date(2026, 2, 3), date(2026, 3, 6))

    # 31 points of two assets: counted in the file itself, with the first and the last of each.
    found = by_asset(batch)
    assert {key: (len(values), values[0], values[-1]) for key, values in found.items()} == {
        ("BTC", ""): (31, 1513125006987.5164, 1417498245668.1748),
        ("ETH", "eth"): (31, 281197883560.20215, 261969581782.80243),
    }
    assert batch.rejected.empty
