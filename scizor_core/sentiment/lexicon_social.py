"""Words, phrases and emoji of posts about stocks and crypto; scale as in `lexicon_news`."""

SOCIAL: tuple[tuple[float, str], ...] = (
    # --- bulls --------------------------------------------------------------------------------
    (
        2.2,
        """
        to the moon, going to the moon, mooning, short squeeze, gamma squeeze, moass,
        diamond hands, parabolic, bull run, new ath, new aths, super bullish, very bullish,
        extremely bullish, mega bullish, printing money, multibagger, ten bagger, 10 bagger
        """,
    ),
    (
        1.5,
        """
        bullish, bull flag, bullish divergence, bullish engulfing, golden cross, moon, moonshot,
        lambo, wagmi, lfg, lets go, let's go, hodl, hodling, ath, breakout, breaks out,
        breaking out, broke out, break out, bear trap, buy the dip, buying the dip,
        bought the dip, btfd, btd, loading up, loaded up, backing up the truck, load the boat,
        tendies, gem, hidden gem, accumulate, accumulating, accumulation, whales buying,
        whale accumulation, smart money buying, strong hands, higher low, higher lows,
        higher high, higher highs, new high, new highs, high of day, hod, 52 week high,
        52 week highs, multi year high, gap up, gaps up, gapped up, ripping, rips, ripped, flying,
        on fire, crushed it, crushing it, killing it, nailed it, green day, green candle,
        green candles, god candle, cup and handle, double bottom, inverse head and shoulders,
        bottomed, bottom is in, oversold bounce, bounce, bounced, bouncing, popping, pops, popped,
        mass adoption, institutional adoption, etf inflows, net inflows, airdrop, halving rally,
        listing on binance, listed on coinbase, strong support, holding support, held support,
        cheap here, dirt cheap, easy money, free money, calls printing, in profit, banked,
        took profits, nice gains, winner, winners, beast, must own, undervalued gem, buy programs
        """,
    ),
    (
        1.0,
        """
        going long, went long, call buying, call sweep, bulls, bid up, pump, pumping, pumped,
        looks great, looking great, nice setup, great setup, support holds, yolo, send it,
        up only, holding strong, staking rewards, mainnet launch, mainnet live, awesome, amazing,
        bargain, oversold
        """,
    ),
    # --- bears --------------------------------------------------------------------------------
    (
        -2.5,
        """
        rug pull, rug pulled, rugpull, rugged, got rugged, exit scam, pump and dump, honeypot,
        scam, scammers, scammed, scammer, scamcoin, shitcoin, rekt, get rekt, got rekt, exploit,
        exploited, drained, stolen, depeg, depegged, depegs, depegging, bank run,
        halts withdrawals, halted withdrawals, pauses withdrawals, paused withdrawals,
        frozen withdrawals, withdrawals frozen, going to zero, goes to zero, worthless, dead coin,
        death spiral, wash trading, liquidated longs, long squeeze, capitulation, capitulating,
        bloodbath, blood bath, total loss, lost everything, lost my savings
        """,
    ),
    (
        -1.5,
        """
        bearish, very bearish, bear flag, bearish divergence, bearish engulfing, death cross,
        bag holder, bag holders, bagholder, bagholders, bagholding, holding the bag, holding bags,
        paper hands, ngmi, fud, bull trap, dead cat bounce, head and shoulders, double top,
        topped out, blow off top, lower high, lower highs, lower low, lower lows, new low,
        new lows, low of day, 52 week low, 52 week lows, multi year low, gap down, gaps down,
        gapped down, breakdown, breaks down, breaking down, broke down, broke support,
        breaks support, lost support, below support, dump, dumps, dumped, dumping, tank, tanks,
        tanked, tanking, crater, craters, cratered, cratering, bleeding, bleed, bleeds, blood,
        red candle, red candles, red day, falling knife, stopped out, liquidation, liquidations,
        outflows, net outflows, etf outflows, bubble, overbought, garbage, trash, junk, screwed,
        dead money, crap, sucks, sucked, loser, losers, getting out, stay away, sell everything,
        whale dump, token unlock, exit liquidity, ouch, got killed, getting killed, smoked,
        bears in control, copium, cope, closed in red, closed in the red, trading in the red,
        bought the top
        """,
    ),
    (
        -1.0,
        """
        going short, went short, put buying, put sweep, bears, short seller, short sellers,
        short report, rejected at, down big, ugh, insider selling, taking losses, cut my losses,
        took a loss, top is in, overhyped, manipulation, manipulated, fomo
        """,
    ),
    (
        0.0,
        """
        best buy, buy side, sell side, buy or sell, short dated, long dated, as long as,
        long time, how long, short time, in short, long standing, green energy, green bond,
        green bonds, red hat, bear stearns, running shoes, running costs, up and running,
        tank farm, storage tank, storage tanks, long haul, short haul, conference call,
        conference calls, red cross, as long, long distance, sale of, buying power,
        purchasing power, calls for, calls on, mobile calls, phone calls, voice calls, junk mail,
        resistance to, all in all, higher education, agreed to sell, agrees to sell,
        selling price, selling prices, buying and selling, best selling
        """,
    ),
    # --- emoji --------------------------------------------------------------------------------
    (
        1.4,
        """
        🚀, 🌙, 🌕, 🌝, 🐂, 🤑, 💎, 🟢, 📈, 🔥, 🏆, 🥇, 🎯
        """,
    ),
    (
        0.8,
        """
        💪, 💰, 💵, 💸, 🙌, 👍, ✅, 🎉, 🥳, 😍, ❤, 😎, 👏, 💯, ⬆, 🍾
        """,
    ),
    (
        -1.4,
        """
        📉, 🐻, 🔻, 🩸, 💀, ☠, 🤡, 🚨, 🟥, 🪦, 🗑, 💩, 🔴, 🆘
        """,
    ),
    (
        -0.8,
        """
        👎, 😭, 😢, 😡, 🤬, 😱, 😨, 😰, ⬇, ❌, ⚠, 🤮, 💔, 🥴, 😞
        """,
    ),
)

# Words with a side only where a post talks trades: they count in a text that has a cashtag, a
# hashtag or one of the emoji above, and are plain words elsewhere ("a long history").
TRADING_TALK: tuple[tuple[float, str], ...] = (
    (
        1.2,
        """
        long, longs, buy, buys, buying, bought, buyers, added, adding, bought more, buying more,
        calls, bull, moon, all in, picked some up, picked up some, starter position, setting up,
        squeeze, squeezing, scooped, holding, entry, popping, hold strong
        """,
    ),
    (
        0.9,
        """
        nice, love, loving, like, like this, i like, looks good, looking good, cheap, steal,
        run up, running, green, excited, exciting, comfy, alpha, beautiful, higher, partnership,
        support, pumps, happy, perfect, winning, yes, easy, insane
        """,
    ),
    (
        -1.2,
        """
        short, shorts, shorting, shorted, sell, selling, sellers, sold, puts, bear, avoid,
        avoiding, get out, toast, dead, killed, pos, puke, out of, exit, lower
        """,
    ),
    (
        -0.9,
        """
        red, fade, fading, faded, resistance, stuck, hate, nervous, scary, topping, unlock, hype,
        careful, broken, overextended, stop, heavy, sad
        """,
    ),
)
