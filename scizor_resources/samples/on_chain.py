"""DefiLlama, Glassnode and Nansen as samples: pure functions.

Values of a day lie on lines between a few hand-written ones (`wire.value_of`).
"""

from collections.abc import Mapping
from typing import Any

from scizor_resources.samples.wire import Answer, Asked, load, metric_days, midnight, value_of

_FEES = {"dailyFees": "fees", "dailyRevenue": "revenue"}
#: Parts of a protocol's value that are not its own; a client has to leave them out.
_BORROWED = 0.4


def defillama(asked: Asked) -> Answer:
    """Answer for api.llama.fi."""
    kind, _, slug = asked.path.strip("/").rpartition("/")
    data = load("defillama")
    if kind == "v2/historicalChainTvl":
        chain = _chain(slug)
        if chain is None:
            return Answer({"message": "Chain not found"}, 404)
        return Answer([{"date": at, "tvl": value} for at, value in _points(chain["tvl"], asked)])
    protocol = data["protocols"].get(slug)
    metrics = {
        "protocol": "tvl",
        "summary/fees": _FEES.get(asked.get("dataType", "dailyFees"), ""),
        "summary/dexs": "dex_volume",
    }
    metric = metrics.get(kind)
    if metric is None or protocol is None or metric not in protocol:
        return Answer({"message": f"{slug} not found"}, 404)
    if metric == "tvl":
        return Answer(_protocol(protocol, asked))
    points = _points(protocol[metric], asked, swing=0.08)
    return Answer({"name": protocol["name"], "totalDataChart": [list(point) for point in points]})


def stablecoins(asked: Asked) -> Answer:
    """Answer for stablecoins.llama.fi."""
    kind, _, name = asked.path.strip("/").rpartition("/")
    chain = _chain(name)
    if kind != "stablecoincharts" or chain is None:
        return Answer({"message": "not found"}, 404)
    rows = []
    for at, value in _points(chain["stablecoins"], asked, swing=0.002):
        euros = round(value * 0.002, 2)
        rows.append(
            {
                # Text here, a number in the other series: so it is on the wire.
                "date": str(at),
                "totalCirculating": {"peggedUSD": value, "peggedEUR": round(euros / 1.1, 2)},
                "totalCirculatingUSD": {"peggedUSD": value, "peggedEUR": euros},
            }
        )
    return Answer(rows)


def glassnode(asked: Asked) -> Answer:
    """Answer for api.glassnode.com: metrics of a day, of one asset or of many at once."""
    metric = asked.path.removeprefix("/v1/metrics/")
    is_bulk = metric.endswith("/bulk")
    known = load("glassnode").get(metric.removesuffix("/bulk"))
    if known is None:
        return Answer({"message": "unknown metric"}, 404)
    assets = [asset.upper() for asset in asked.query.get("a", ())]
    if asked.get("i") != "24h" or not assets or any(asset not in known for asset in assets):
        return Answer({"message": "unknown asset or interval"}, 400)
    since, until = int(asked.get("s", "0")), int(asked.get("u", str(2**40)))
    swing = known["swing"]
    rows = {
        asset: [
            point for point in _points(known[asset], asked, swing) if since <= point[0] <= until
        ]
        for asset in assets
    }
    if not is_bulk:
        return Answer([{"t": at, "v": value} for at, value in rows[assets[0]]])
    times = [at for at, _ in rows[assets[0]]]
    return Answer(
        {
            "data": [
                {"t": at, "bulk": [{"a": asset, "v": rows[asset][n][1]} for asset in assets]}
                for n, at in enumerate(times)
            ]
        }
    )


def nansen(asked: Asked) -> Answer:
    """Answer for api.nansen.ai: one table that is shown from its day on."""
    tables = load("nansen")
    rows = tables["tables"].get(asked.path)
    if rows is None:
        return Answer({"error": "Not Found"}, 404)
    wanted = asked.json
    number, size = wanted["pagination"]["page"], wanted["pagination"]["per_page"]
    is_known = str(asked.at.date()) >= tables["from"]
    found = [row for row in rows if is_known and row["chain"] in wanted["chains"]]
    found.sort(key=lambda row: row[wanted["order_by"][0]["field"]], reverse=True)
    page = {"page": number, "per_page": size, "is_last_page": number * size >= len(found)}
    return Answer({"data": found[(number - 1) * size : number * size], "pagination": page})


def _chain(name: str) -> Mapping[str, Any] | None:
    chains = load("defillama")["chains"]
    return next((chain for key, chain in chains.items() if key.lower() == name.lower()), None)


def _points(anchors: list[float], asked: Asked, swing: float = 0.01) -> list[tuple[int, float]]:
    """Return time and value of each day that has begun; the anchors stand on `anchor_days`."""
    by_day = dict(zip(load("defillama")["anchor_days"], anchors, strict=True))
    return [
        (int(midnight(day).timestamp()), value_of(by_day, day, swing))
        for day in metric_days(asked.at)
    ]


def _protocol(protocol: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    points = _points(protocol["tvl"], asked)
    shares = {**protocol["chains"], "Ethereum-borrowed": _BORROWED}
    return {
        "name": protocol["name"],
        "chainTvls": {
            key: {
                "tvl": [
                    {"date": at, "totalLiquidityUSD": round(value * share, 2)}
                    for at, value in points
                ]
            }
            for key, share in shares.items()
        },
    }
