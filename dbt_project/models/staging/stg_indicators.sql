{% for market in var("markets") -%}
{% for timeframe in ["1m", "5m", "15m", "1d"] -%}
-- depends_on: {{ source(market, "indicators_" ~ timeframe) }}
{% endfor -%}
{% endfor %}
-- The sources are views of one table, a market and timeframe each. The table is read once
-- instead of once a view: with hundreds of monthly partitions, planning the union cost more time
-- than running it.
select
    instruments.market,
    instruments.symbol,
    indicators.instrument_id,
    indicators.timeframe,
    indicators.session_date,
    indicators.ts,
    indicators.sma_10,
    indicators.sma_20,
    indicators.sma_50,
    indicators.sma_200,
    indicators.ema_10,
    indicators.ema_12,
    indicators.ema_20,
    indicators.ema_26,
    indicators.ema_50,
    indicators.rsi_9,
    indicators.rsi_14,
    indicators.macd,
    indicators.macd_signal,
    indicators.macd_diff,
    indicators.bb_high,
    indicators.bb_mid,
    indicators.bb_low,
    indicators.bb_width,
    indicators.bb_percent,
    indicators.atr_14,
    indicators.vwap,
    indicators.vwap_14,
    indicators.obv,
    indicators.stoch_k,
    indicators.stoch_d,
    indicators.adx_14,
    indicators.adx_pos_14,
    indicators.adx_neg_14,
    indicators.mfi_14,
    indicators.volume_sma_20,
    indicators.source,
    indicators.source like '%simulated%' as is_simulated,
    indicators.warmup_bars,
    indicators.computed_at
from market.indicators as indicators
inner join {{ source("reference", "instruments") }} as instruments
    on indicators.instrument_id = instruments.instrument_id
