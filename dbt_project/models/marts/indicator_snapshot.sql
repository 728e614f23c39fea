with wanted (timeframe) as (
    values ('1m'), ('5m'), ('15m'), ('1d')
)

-- The newest row is taken from the index, for each instrument and timeframe.
select
    latest.market,
    latest.symbol,
    latest.instrument_id,
    latest.timeframe,
    latest.session_date,
    latest.ts,
    bar.close,
    latest.sma_10,
    latest.sma_20,
    latest.sma_50,
    latest.sma_200,
    latest.ema_10,
    latest.ema_12,
    latest.ema_20,
    latest.ema_26,
    latest.ema_50,
    latest.rsi_9,
    latest.rsi_14,
    latest.macd,
    latest.macd_signal,
    latest.macd_diff,
    latest.bb_high,
    latest.bb_mid,
    latest.bb_low,
    latest.bb_width,
    latest.bb_percent,
    latest.atr_14,
    latest.vwap,
    latest.vwap_14,
    latest.obv,
    latest.stoch_k,
    latest.stoch_d,
    latest.adx_14,
    latest.adx_pos_14,
    latest.adx_neg_14,
    latest.mfi_14,
    latest.volume_sma_20,
    latest.warmup_bars,
    latest.source,
    latest.is_simulated,
    latest.computed_at
from {{ source("reference", "instruments") }} as instruments
inner join wanted on true
inner join lateral (
    select indicators.*
    from {{ ref("stg_indicators") }} as indicators
    where
        indicators.instrument_id = instruments.instrument_id
        and indicators.timeframe = wanted.timeframe
    order by indicators.ts desc
    limit 1
) as latest on true
left join lateral (
    select intraday.close
    from {{ ref("stg_bars_intraday") }} as intraday
    where
        intraday.instrument_id = latest.instrument_id
        and intraday.timeframe = latest.timeframe
        and intraday.ts = latest.ts
    union all
    select daily.close
    from {{ ref("stg_bars_daily") }} as daily
    where
        latest.timeframe = '1d'
        and daily.instrument_id = latest.instrument_id
        and daily.ts = latest.ts
) as bar on true
