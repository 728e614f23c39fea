"""Words and phrases of finance news with the feeling they carry by themselves.

Each entry is one valence and the phrases that share it, with commas between them. The scale runs
from -3 (ruinous) to 3 (as good as news gets); 1 is the weakest that decides a label alone, and
anything below about 0.8 only tips a balance; 0 takes the feeling from a shorter phrase inside.
Phrases are matched on whole words, lower case, the longest first; hyphens count as blanks. Words
whose sign depends on what they act on (rise, cut, beat) are in `lexicon_grammar`.
"""

NEWS: tuple[tuple[float, str], ...] = (
    # --- results and guidance -----------------------------------------------------------------
    (
        2.2,
        """
        record profit, record profits, record earnings, record revenue, record sales,
        record quarter, record year, record results, record high, record highs, all time high,
        all time highs, blowout quarter, blowout earnings, blockbuster earnings,
        blockbuster results, beat and raise
        """,
    ),
    (
        1.8,
        """
        better than expected, stronger than expected, better than forecast, better than feared,
        ahead of expectations, ahead of estimates, ahead of forecasts, ahead of consensus,
        positive surprise, upside surprise, returns to profit, returned to profit,
        return to profit, returns to profitability, back to profit, back in profit,
        swings to profit, swung to profit, swings to a profit, swung to a profit, turned a profit,
        turned to profit, turned profitable, turns profitable, into the black, back in the black,
        profit upgrade, special dividend, share buyback, stock buyback, share repurchase,
        best quarter, best year
        """,
    ),
    (
        1.2,
        """
        profitable, profitably, more profitable, profitable growth, profitable quarter,
        strong results, strong demand, strong growth, strong sales, strong quarter, strong start,
        strong performance, strong position, solid results, solid quarter, solid growth, robust,
        robust demand, buoyant, thriving, outperform, outperforms, outperformed, outperforming,
        outperformance, buyback, buybacks, cost savings, annual savings, savings of, synergy,
        turnaround, favourable, favorable, positive results, positive development,
        positive impact, positive effect, positive outlook, positive trend, positive data, upbeat,
        optimistic, optimism, confident, encouraging, promising, very good, good result,
        good results, rosy, improved profitability, market leader, leading position, high demand,
        well positioned, competitive advantage, ahead of schedule, under budget, growth strategy,
        on track to beat
        """,
    ),
    (
        -2.4,
        """
        profit warning, profit warnings, warns on profit, warned on profit, guidance cut,
        withdraws guidance, withdrew guidance, suspends guidance, pulls guidance, pulled guidance,
        suspends dividend, suspended dividend, scraps dividend, scrapped dividend, omits dividend,
        passes dividend, dividend cut, going concern, substantial doubt, swings to loss,
        swung to loss, swings to a loss, swung to a loss, turned to loss, turned to a loss,
        slipped into the red, into the red, record loss, record losses, record low, record lows,
        all time low, all time lows, worst quarter, worst year, in the red, surprise loss
        """,
    ),
    (
        -1.8,
        """
        worse than expected, weaker than expected, worse than feared, worse than forecast,
        slower than expected, negative surprise, earnings miss, revenue miss, missed estimates,
        short of expectations, short of estimates, short of forecasts, falls short, fell short,
        fall short, falling short, disappoint, disappoints, disappointed, disappointing,
        disappointment, loss making, unprofitable, made a loss, posted a loss, reported a loss,
        warns, warned, warning, warnings
        """,
    ),
    (
        -1.2,
        """
        weak results, weak demand, weak sales, weak quarter, weak outlook, weak guidance, weak,
        weaker, weakest, weakness, sluggish, poor results, poor, poorly, soft demand, softness,
        tepid, lacklustre, lackluster, stagnant, stagnation, bleak, gloomy, gloom, downbeat,
        pessimistic, pessimism, cautious outlook, challenging, tough market, tough conditions,
        difficult market, difficult conditions, headwind, headwinds, underperform, underperforms,
        underperformed, underperforming, overcapacity, glut, negative impact, negative effect,
        negative outlook, unfavourable, unfavorable, adverse, adversely, margin pressure,
        margin squeeze, cost overrun, cost overruns, unfortunately, depressed, cash burn,
        burning cash, slowdown, slow down, deteriorate, deteriorates, deteriorated, deteriorating,
        deterioration, suffer, suffers, suffered, suffering, struggle, struggles, struggled,
        struggling, hurt, hurts, hurting, hit hard, hit by, harm, harms, harmed, worsen, worsens,
        worsened, worsening, worse, worst, behind schedule, casting a cloud, casts a shadow,
        pressured, under pressure, concern, concerns, concerned, worry, worries, worried, fear,
        fears, uncertainty, uncertain, overvalued, overpriced, expensive, growth slowed,
        growth slows, growth slowing, slowing growth, slower growth, growth stalls, growth stalled
        """,
    ),
    # --- analysts and ratings -----------------------------------------------------------------
    (
        1.8,
        """
        upgrades, upgraded, upgraded to buy, raised to buy, raised to overweight,
        raised to outperform, double upgrade, strong buy, conviction buy, top pick,
        initiates with buy, initiated with a buy, buy rating, rated buy, rated outperform,
        undervalued
        """,
    ),
    (
        -1.8,
        """
        downgrade, downgrades, downgraded, cut to sell, cut to hold, cut to underperform,
        cut to neutral, cut to underweight, cut to junk, double downgrade, strong sell,
        sell rating, rated sell, junk status, credit watch negative, outlook negative
        """,
    ),
    # --- orders, deals, products --------------------------------------------------------------
    (
        1.3,
        """
        wins contract, won contract, wins a contract, won a contract, wins order, won an order,
        wins an order, won the contract, wins deal, won a deal, wins, won, winning, awarded,
        lands contract, lands deal, landed a deal, secures, secured, secures contract,
        secured an order, secures funding, received an order, has received an order,
        receives order, receives an order, received a contract, received orders,
        received a significant order, received a major order, received a large order,
        received a new order, receives approval, received approval, wins approval, won approval,
        gets approval, gains approval, approves merger, approve merger, fda approval,
        fda approves, fda approved, etf approval, regulatory approval, breakthrough,
        orphan drug status, fast track designation, meets primary endpoint, met primary endpoint,
        positive phase, patent win, new record, strategic partnership, record orders,
        significant order, major order, large order, follow on order, frame agreement, lucrative,
        selected by, was selected, has been selected, chosen by, was chosen, has been chosen,
        preferred supplier, preferred bidder, exclusive deal, drops lawsuit, dropped lawsuit,
        drops charges, drops case, drops its case, sec approves, approves spot, regulator approves
        """,
    ),
    (
        1.0,
        """
        completes acquisition, agrees to buy, takeover bid, takeover offer, takeover interest,
        bid interest, sweetened offer, premium to, expand its market, expands in, expand its,
        expand in, expansion strategy, strengthen, strengthens, strengthened, strengthening,
        supports growth, enables growth, enhance, enhances, enhanced, enhancing, benefit,
        benefits, benefited, benefiting, benefitted, opportunity, opportunities, success,
        successful, successfully, succeed, succeeded, excellent, outstanding, impressive,
        impresses, impressed, pleased, delighted, proud, happy with, satisfied, satisfactory,
        good, great, strong, stronger, strongest, strongly, strength, healthy, solid, best,
        better, ideal, award, awards, accolade, innovative, innovation, efficient, recover,
        recovers, recovered, recovering, recovery, rebound, rebounds, rebounded, rebounding,
        rally, rallies, rallied, rallying, bounce back, bounces back, bounced back, resilient,
        resilience, momentum, upswing, uptick, uptrend, accelerate, accelerates, accelerated,
        accelerating, boom, booms, booming, milestone, unlock value, accretive, upside, tailwind,
        tailwinds, settles lawsuit, resolved, resumes dividend, reinstates dividend,
        reinstates guidance, long term contract, prosper, attractive, interested in,
        very interested, gains, pays off, paid off, paying off, competitiveness improved,
        outpacing, outpaces, outpaced, dominates, dominating
        """,
    ),
    (
        -1.4,
        """
        cancels order, cancelled order, canceled order, order cancelled, order cancellation,
        order cancellations, contract cancelled, loses contract, lost contract, lost a contract,
        lost the contract, deal collapses, deal collapsed, merger blocked, blocks merger,
        block merger, bid rejected, rejects bid, rejected bid, rejects offer, terminates,
        terminated, termination, called off, calls off, walks away, abandon, abandons, abandoned,
        shelve, shelves, shelved, postpone, postpones, postponed, postponement, put off, delay,
        delays, delayed, recall, recalls, recalled, recalling, defect, defects, faulty, outage,
        outages, halts production, halted production, production halt, trial failure, fails trial,
        failed trial, missed endpoint, misses primary endpoint, clinical hold,
        complete response letter, rejected, rejects, rejection, setback, setbacks, blow to,
        supply chain issues, supply shortage, shortage, shortages, bottleneck, bottlenecks,
        disruption, disruptions, disrupted, strike action, walkout, boycott, backlash, loses,
        losing, lost, lose, painful, mistake, mistakes, problem, problems, trouble, troubled,
        troubles, crisis, risk of, threat, threats, threatens, threatened, accident, explosion,
        leak, pollution, dispute, disputes, suspended from trading, suspends trading
        """,
    ),
    (
        0.5,
        """
        acquires, to acquire, signs agreement, signed an agreement, signed a contract, signs deal,
        signed a deal, signed a letter of intent, cooperation agreement, partnership agreement,
        license agreement, new contract, launches, opens new, extends deal, contract extension,
        approved, approval, expansion, invest in, invests in, opens, capital gain, new customers,
        new order, reinforce, reinforces, competitive, leading, largest, high quality, modern,
        cooperation, joint venture, flagship, popular, gain of, hires, upgrade
        """,
    ),
    (
        -0.5,
        """
        poorest, oversupply, banned, ending, difficult, difficulties, tough, lack, pressures,
        cancel, cancels, cancelled, canceled, cancellation, closure, closing down, closes,
        to close, blames, blaming, blamed, departure, leaves, complaint, complaints,
        adjustment measures, personnel negotiations, unrest, war, attack, attacks, slammed,
        doubts, doubt, risky, illegal, halt, halts, halted, suspend, suspends, suspended, blocked,
        blocks, restructuring, streamlining, mixed
        """,
    ),
    # --- jobs and plants ----------------------------------------------------------------------
    (
        -1.6,
        """
        lay off, lays off, laid off, laying off, layoff, layoffs, lay offs, job cuts, job cut,
        job losses, cut jobs, cuts jobs, cutting jobs, axes jobs, axe jobs, slashes jobs,
        staff cuts, staff reductions, redundancy, redundancies, made redundant,
        personnel reductions, reduction of personnel, reduce personnel, temporary layoffs,
        furlough, furloughs, workforce reduction, loose their jobs, lose their jobs,
        plant closure, plant closures, store closures, closing stores, close stores, close plant,
        closes plant, shut down, shuts down, shutting down, shutdown, closed down, be closed,
        liquidated, liquidate, codetermination negotiations, statutory negotiations, discontinue,
        discontinues, discontinued production, make redundant, makes redundant
        """,
    ),
    # --- balance sheet, law, trust ------------------------------------------------------------
    (
        -2.6,
        """
        bankrupt, bankruptcy, bankruptcies, chapter 11, chapter 7, insolvent, insolvency,
        receivership, into administration, enters administration, collapse, collapses, collapsed,
        collapsing, fraud, fraudulent, accounting scandal, scandal, ponzi, embezzlement,
        money laundering, delisted, delisting, delist, wiped out, wipes out, market crash,
        meltdown, default on, defaults on, defaulted, defaulting, criminal charges, indicted,
        indictment, debacle, catastrophe, catastrophic, disaster, disastrous
        """,
    ),
    (
        -1.6,
        """
        lawsuit, lawsuits, sued, sues, suing, class action, probe, probes, investigation,
        investigated, subpoena, subpoenaed, sec charges, charged with, fine, fined, fines,
        penalty, penalties, antitrust, violation, violations, breach, breached, cyberattack,
        data breach, bribery, corruption, misleading, misconduct, restates earnings, restatement,
        accounting irregularities, impairment, impairments, impairment charge, impairment charges,
        write down, write downs, writedown, writedowns, written down, write off, write offs,
        writeoff, writes down, goodwill charge, dilution, dilutive, rights issue,
        discounted placement, share offering priced, cash crunch, liquidity crisis,
        covenant breach, margin call, margin calls, resigns, resigned abruptly,
        steps down abruptly, ousted, fired, trading halt, trading suspended, recession, downturn,
        slump, slumps, slumped, slumping, crash, crashes, crashed, crashing, rout, sell off,
        selloff, sells off, bear market, contraction, stagflation, turmoil, panic, contagion,
        credit crunch, trade war, sanction, sanctions, sanctioned, embargo, damage, damages,
        damaged, victim, victims, criticism, criticised, criticized, critics, overhang, strike,
        strikes, downside, vulnerable, volatile, downward, bad news, bad, terrible, horrible,
        awful, ugly, miserable, grim, dismal, abysmal, stranded, unsustainable, failure, failures
        """,
    ),
    # --- macro --------------------------------------------------------------------------------
    (
        1.0,
        """
        rate cut, rate cuts, cuts rates, cut rates, cutting rates, easing cycle, soft landing,
        stimulus, dovish, risk on, ceasefire, trade deal, tariff relief, bailout approved,
        bull market
        """,
    ),
    (
        -1.0,
        """
        rate hike, rate hikes, hikes rates, raises rates, hard landing, hawkish, risk off,
        tariff threat, new tariffs, government shutdown, debt ceiling, sticky inflation,
        hot inflation, inverted yield curve, downside risks
        """,
    ),
    # --- words that cancel a shorter one: facts, names, headings --------------------------------
    (
        0.0,
        """
        good morning, good afternoon, good evening, good faith, goods and services, fine print,
        fine paper, fine papers, fine tuning, best known, best practice, best practices,
        great britain, at least, at best, as well as, risk factors, risk management, risk of loss,
        gains tax, capital gains, award ceremony, benefits package, employee benefits,
        strike price, put option, short term, long term, forward looking, stop loss, weight loss,
        profit and loss, profit sharing, innovation fund, crisis management, problem solving,
        lost and found, energy efficiency, energy efficient, good corporate governance,
        crash test, theft protection, warning system, warning systems, antitrust approval,
        competition approval, is subject to approval, report is delayed, delayed quotes,
        leading to, leaves for, closes at, less than expected, more than expected,
        upgrade scheduled, network upgrade, protocol upgrade
        """,
    ),
)
