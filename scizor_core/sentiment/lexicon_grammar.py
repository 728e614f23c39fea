"""Words that carry meaning only together: directions, measures, negations, weights, contrasts.

A direction ("rose", "cut", "beats") gets its sign from the measure it acts on ("profit", "costs",
"estimates"), so "costs rose" and "profit fell" are both bad news. Lists have commas between their
phrases; all words are lower case, and hyphens count as blanks.
"""

from typing import Literal, NamedTuple

Side = Literal["left", "right", "both"]


class Direction(NamedTuple):
    """How a word of movement works.

    Attributes:
        strength: sign and size of the movement; multiplied by the measure's polarity.
        alone: valence where the text names no measure that the word could act on.
        side: where the measure stands. "left": before the word ("profit rose"); "right": after it
            ("beats estimates"); "both": after it if close, else before it ("cut costs").
    """

    strength: float
    alone: float
    side: Side


class Measure(NamedTuple):
    """A thing that goes up and down.

    Attributes:
        polarity: 1 where more is better, -1 where less is better, 0 where neither is news.
        alone: valence of naming it with no direction ("reported a net loss").
    """

    polarity: float
    alone: float


DIRECTIONS: tuple[tuple[Direction, str], ...] = (
    # --- upwards ------------------------------------------------------------------------------
    (
        Direction(1.5, 0.4, "left"),
        """
        rise, rises, rose, risen, grow, grows, grew, grown, climb, climbs, climbed, climbing,
        advance, advances, advanced, edge up, edges up, edged up, inches up, inched up, went up,
        goes up, going up, moved up, moves up, picks up, picked up, picking up, ticks up,
        ticked up, gained, gaining, gain, jumps, jumped, jump, jumping, leaps, leapt, leaped
        """,
    ),
    (
        Direction(2.0, 1.4, "left"),
        """
        soar, soars, soared, soaring, surge, surges, surged, surging, skyrocket, skyrockets,
        skyrocketed, skyrocketing, rocket, rockets, rocketed, spike up, explodes, exploding,
        multiplied
        """,
    ),
    (
        Direction(1.5, 0.3, "both"),
        """
        increase, increases, increased, increasing, rising, growing, growth, double, doubles,
        doubled, doubling, triple, triples, tripled, tripling, raised, lifted, boosted, hike,
        hikes, hiked, hiking, improve, improves, widen, widens, widened, widening, expands,
        expanded, higher, greater, larger, spike, spikes, spiked, swell, swells, swelled, upped,
        climbs to
        """,
    ),
    (
        Direction(1.6, 1.2, "both"),
        """
        improved, improving, improvement, improvements, grew strongly
        """,
    ),
    (
        Direction(1.5, 0.9, "left"),
        """
        up, up by, was up, is up, were up
        """,
    ),
    (
        Direction(1.8, 1.0, "left"),
        """
        higher than expected, higher than forecast
        """,
    ),
    (
        Direction(1.7, 0.9, "right"),
        """
        beat, beats, beating, beaten, top, tops, topped, topping, smash, smashes, smashed, crush,
        crushes, crushed, trounces, blows past, blew past, outstrips
        """,
    ),
    (
        Direction(1.5, 0.0, "right"),
        """
        exceed, exceeds, exceeded, exceeding, surpass, surpasses, surpassed, above
        """,
    ),
    (
        Direction(1.5, 0.0, "right"),
        """
        raise, raises, raising, lift, lifts, lifting, boost, boosts, boosting, ups, add, adds,
        added
        """,
    ),
    # --- downwards ----------------------------------------------------------------------------
    (
        Direction(-1.6, -0.5, "left"),
        """
        fall, falls, fell, fallen, falling, drop, drops, dropped, dropping, decline, declines,
        declined, slide, slides, slid, sliding, slip, slips, slipped, slipping, dip, dips, dipped,
        went down, goes down, going down, moved down, edge down, edges down, edged down,
        inched down, ease, eases, eased, easing, retreat, retreats, retreated, dwindle, dwindles,
        dwindled, contracted, pull back, pulls back, pulled back, sags, sagged, halved,
        was halved, loses ground
        """,
    ),
    (
        Direction(-2.2, -1.5, "left"),
        """
        plunge, plunges, plunged, plunging, plummet, plummets, plummeted, plummeting, tumble,
        tumbles, tumbled, tumbling, nosedive, nosedives, nosedived, sink, sinks, sank, sunk,
        sinking, dives, dived, dove, free fall, freefall, implodes, imploded
        """,
    ),
    (
        Direction(-1.5, -0.3, "both"),
        """
        decrease, decreases, decreased, decreasing, declining, reduced, reducing, reduction,
        reductions, cut, cuts, cutting, cutback, lower, lowered, lowering, slashed, slashing,
        trimmed, trimming, narrow, narrows, narrowed, narrowing, shrink, shrinks, shrank, shrunk,
        shrinking, smaller, halves, pared, cool, cools, cooled, cooling, repaid, smaller than,
        fewer, less, erode, erodes, eroded, dent, dents, dented, curbs, curbed, slows, slowed,
        slowing
        """,
    ),
    (
        Direction(-1.6, -1.1, "both"),
        """
        weaken, weakens, weakened, weakening, squeezed, evaporated, wiped
        """,
    ),
    (
        Direction(-1.5, -0.9, "left"),
        """
        down, down by, was down, is down, were down
        """,
    ),
    (
        Direction(-1.8, -1.0, "left"),
        """
        lower than expected, lower than forecast
        """,
    ),
    (
        Direction(-1.7, -0.9, "right"),
        """
        miss, misses, missed, missing, lags, lagged
        """,
    ),
    (
        Direction(-1.5, 0.0, "right"),
        """
        below, short of, undershoots, undershot, trails
        """,
    ),
    (
        Direction(-1.5, 0.0, "right"),
        """
        reduce, reduces, slash, slashes, trim, trims, lowers, halve, pare, pares, repay, repays,
        curb
        """,
    ),
)

MEASURES: tuple[tuple[Measure, str], ...] = (
    # --- more is better -----------------------------------------------------------------------
    (
        Measure(1.0, 0.0),
        """
        profit, profits, earnings, income, net income, revenue, revenues, sales, net sales,
        turnover, ebit, ebitda, eps, earnings per share, cash flow, cashflow, margin, margins,
        profitability, result, results, gross profit, operating profit, pretax profit,
        profit before tax, profit before taxes, profit after tax, profit for the period,
        order intake, orders, order book, order backlog, order portfolio, backlog, new orders,
        bookings, market share, market shares, demand, shares, share price, stock, stocks, share,
        stock price, share prices, stock prices, price target, target price, dividend, dividends,
        payout, guidance, outlook, forecast, forecasts, estimate, estimates, expectations,
        expectation, consensus, views, deliveries, shipments, exports, subscribers, customers,
        users, traffic, passengers, passenger numbers, occupancy, load factor, productivity,
        efficiency, market cap, market capitalisation, market capitalization, valuation,
        confidence, consumer confidence, sentiment, retail sales, gdp, economy, rating, ratings,
        credit rating, return, returns, roe, assets, cash, nav, tvl, hashrate, hash rate,
        active addresses, adoption, trading volume, trading volumes, bitcoin, btc, ethereum,
        ether, eth, solana, crypto, altcoins, token, coin, futures, index, nasdaq, dow, s p, ftse,
        dax, asx, wall street, equities, inflows, like for like sales, same store sales,
        comparable sales, fees and commissions, premiums written, performance, growth rate,
        capacity utilisation, competitiveness, figures, gross margin, operating margin,
        operating income, operating result, volume, volumes, savings, synergies, rents, royalties,
        advertising, ad sales, standing, position, market position, presence, market presence,
        support
        """,
    ),
    (
        Measure(0.6, 0.0),
        """
        price, prices, production, output, jobs, hiring, investment, investments, spending,
        capital expenditure, payrolls, housing starts, imports, rent, value, target, targets,
        capacity, business, operations, interest income, commodity prices, oil, gold, copper,
        market, markets, car sales, workforce
        """,
    ),
    # --- less is better -----------------------------------------------------------------------
    (
        Measure(-1.0, 0.0),
        """
        cost, costs, expense, expenses, expenditure, debt, debts, net debt, leverage, gearing,
        borrowings, liabilities, unemployment, unemployment rate, jobless claims, jobless rate,
        jobless, inflation, cpi, churn, bad loans, bad debts, credit losses, loan losses,
        loan loss provisions, provisions, tariff, tariffs, tax, taxes, overheads, emissions,
        inventory levels, inventories, claims, expense ratio, cost of sales, short interest,
        exchange inflows, defaults, delinquencies, default rate, risk, risks, vix, gas fees,
        lead times, downtime, fuel prices, raw material prices, raw material costs, energy prices,
        input costs, deficit, trade deficit, vacancy rate, vacancies, mortality, accidents,
        foreclosures
        """,
    ),
    (
        Measure(-1.1, -0.9),
        """
        loss, losses, net loss, net losses, operating loss, operating losses, pretax loss,
        loss before tax, loss before taxes, loss per share, loss after tax, loss for the period,
        ebit loss
        """,
    ),
    # --- neither is news ----------------------------------------------------------------------
    (
        Measure(0.0, 0.0),
        """
        ownership, holding, holdings, stake, shareholding, share capital, voting rights, votes,
        number of shares, shares outstanding, treasury shares, share issue, own shares, employees,
        number of employees, personnel, staff, headcount, population, temperature, interest rate,
        interest rates, rate, rates, yield, yields, bond yields, treasury yields, par value, age,
        board, members, percentage, speed, weight, size, length, pressure, nominal value,
        subscription price, number of votes, purchase price, ticket, currency, dollar, euro, yen,
        exchange rate, exchange rates, share of votes
        """,
    ),
)

# Seen between a measure and its direction; they say nothing about either.
SKIPPED = """
    before tax, before taxes, after tax, after taxes, pre tax, pretax, excluding tax, net of tax,
    per share, market close, stock exchange, stock exchange release, stock exchange releases,
    share of, top of, on top, top management, top executive, top executives, top level, top 10,
    top ten, top five, top quality, up to, set up, sets up, setting up a, start up, startup,
    made up of, make up, made up, follow up, back up, end up, up for, sign up, signed up, cut off,
    clean up, dial up, catch up, pick up, down payment, down under, break down of, drop off,
    drop in, drop down, falls within, falls under, falls on, raise awareness, raises questions,
    raised eyebrows, cutting edge, in addition, lower house, lower saxony, gain access, above all,
    below the line, above mentioned, more or less, less than, more than, no less than,
    cutting tools, cutting machine, advance payment, advance payments, in advance,
    advanced technology, advanced technologies, lift trucks, fork lift, boost converter,
    income statement, sales office, sales network, sales representative, sales unit,
    sales company, sales manager, results presentation, results webcast, earnings call,
    raise capital, market research, market area, market areas, stock option, stock options,
    share option, option rights, cash on hand, consensus algorithm, added value, value added,
    drop shipping, customers in, customers include, advertising agency, index card, raised to,
    cut to, position of, in a position, as a result, result of, resulting in, result in,
    results in, results of operations, in return, return on, as a result of, investors, investor,
    growth company, growth market, growth markets, growth area, growth areas, growth fund,
    reports, taken up, take up, takes up, took up
"""

# A polar word within three words after one of these turns over and loses strength.
NEGATIONS = """
    not, no, never, n't, cannot, can't, cant, don't, dont, doesn't, doesnt, didn't, didnt, isn't,
    isnt, wasn't, wasnt, aren't, arent, weren't, won't, wont, wouldn't, wouldnt, couldn't,
    shouldn't, hasn't, hasnt, haven't, havent, hadn't, ain't, aint, without, lack of, lacks,
    lacked, lacking, fail to, fails to, failed to, failing to, no longer, unable to, neither, nor,
    nobody, none, unlikely to, unlikely, far from, hardly, barely, scarcely, refuses to,
    rules out, ruled out, denies, denied, deny, avoids, avoided, prevents, prevented, overcomes,
    anything but, nothing, instead of, rather than, dismisses, dismissed
"""
# Negations that are bad news by themselves, whatever they turn over.
NEGATIONS_ALONE: tuple[tuple[float, str], ...] = (
    (
        -1.2,
        """
        fail to, fails to, failed to, failing to, unable to, refuses to
        """,
    ),
)
# Phrases in which a negation does not negate.
NOT_NEGATIONS = """
    not only, not just, no doubt, no one else, no wonder, no 1, no 2, no 3, no matter, patent no,
    nothing but, business id no, without doubt, no brainer, why not, if not, not necessarily,
    whether or not
"""

INTENSITIES: tuple[tuple[float, str], ...] = (
    (
        1.4,
        """
        very, extremely, sharply, significantly, substantially, considerably, steeply,
        dramatically, massively, hugely, huge, massive, enormous, major, severe, severely,
        seriously, heavily, heavy, big, record, drastically, markedly, clearly, super, insanely,
        so, really, absolutely, totally, deep, deeply, steep, sharp, significant, substantial,
        exceptional, exceptionally, rapidly, rapid, fast, highly, fucking, fuckin, af
        """,
    ),
    (
        0.6,
        """
        slightly, slight, somewhat, marginally, marginal, a bit, a little, modestly, modest,
        mildly, mild, partly, partially, fairly, relatively, a touch, kinda, kind of, sort of,
        temporarily, minor, moderate, moderately
        """,
    ),
    (
        0.7,
        """
        may, might, could, possibly, perhaps, maybe, potentially, reportedly, rumored, rumoured,
        allegedly, if
        """,
    ),
)

# What follows counts more and what came before in the sentence counts less.
CONTRASTS = """
    but, however, nevertheless, nonetheless, still managed to
"""
# What follows, up to the next comma or full stop, counts less.
CONCESSIONS = """
    despite, in spite of, although, even though, though, notwithstanding, even as, even after,
    regardless of
"""

# Stand between two numbers that are to be compared, the newer one first.
COMPARISONS = """
    compared to, compared with, as compared to, in comparison with, in comparison to,
    comparing with, comparing to, versus, vs, against
"""
# A direction looks no further than these for a measure on its right.
BARRIERS = """
    as, due, by, to, on, while, and, after, because, at, than, with, amid, when, since, until,
    during, thanks, which, that, who, is, was, were, are, will, has, have, had, among, into, or
"""

UNITS: dict[str, float] = {
    "k": 1e3,
    "thousand": 1e3,
    "m": 1e6,
    "mn": 1e6,
    "mln": 1e6,
    "million": 1e6,
    "b": 1e9,
    "bn": 1e9,
    "bln": 1e9,
    "billion": 1e9,
    "tn": 1e12,
    "trillion": 1e12,
}
