{{ config(materialized="view") }}

-- A view over the two marts that hold a close per session: it is as new as they are, reads one
-- index entry per instrument and timeframe, and measures `age` when it is read.
with wanted (timeframe, length) as (
    values
    ('1m', interval '1 minute'), ('5m', interval '5 minutes'), ('15m', interval '15 minutes')
),

sessions as (
    select
        newest.*,
        newest.last_ts + wanted.length as end_ts
    from {{ source("reference", "instruments") }} as instruments
    inner join wanted on true
    inner join lateral (
        select
            summary.instrument_id,
            summary.timeframe,
            summary.session_date,
            summary.last_ts,
            summary.close,
            summary.source,
            summary.is_simulated,
            summary.is_final
        from {{ ref("intraday_session_summary") }} as summary
        where
            summary.instrument_id = instruments.instrument_id
            and summary.timeframe = wanted.timeframe
        order by summary.session_date desc
        limit 1
    ) as newest on true
    union all
    select
        newest.*,
        null as end_ts
    from {{ source("reference", "instruments") }} as instruments
    inner join lateral (
        select
            daily.instrument_id,
            '1d' as timeframe,
            daily.session_date,
            daily.session_date::timestamp at time zone 'UTC' as last_ts,
            daily.close,
            daily.source,
            daily.is_simulated,
            daily.is_final
        from {{ ref("daily_bars") }} as daily
        where daily.instrument_id = instruments.instrument_id
        order by daily.session_date desc
        limit 1
    ) as newest on true
),

-- The newest session wins; within it the intraday bar that ends last, the finest of equals, and
-- the daily bar only where there is no intraday one.
newest as (
    select distinct on (sessions.instrument_id) sessions.*
    from sessions
    order by
        sessions.instrument_id asc,
        sessions.session_date desc,
        sessions.end_ts desc nulls last,
        sessions.last_ts desc
)

select
    instruments.market,
    instruments.symbol,
    instruments.instrument_id,
    instruments.name,
    instruments.currency,
    instruments.status,
    newest.timeframe,
    newest.session_date,
    newest.last_ts as ts,
    newest.close,
    previous.session_date as previous_session_date,
    previous.close as previous_close,
    100 * (newest.close / nullif(previous.close, 0) - 1) as change_percent,
    now() - newest.last_ts as age,
    newest.source,
    newest.is_simulated,
    newest.is_final
from newest
inner join {{ source("reference", "instruments") }} as instruments
    on newest.instrument_id = instruments.instrument_id
left join lateral (
    -- The newest session before: its daily close, else that of its finest intraday bars.
    select
        earlier.session_date,
        earlier.close
    from (
        (
            select
                daily.session_date,
                daily.close,
                0 as preference
            from {{ ref("daily_bars") }} as daily
            where
                daily.instrument_id = newest.instrument_id
                and daily.session_date < newest.session_date
            order by daily.session_date desc
            limit 1
        )
        {% for timeframe in ["1m", "5m", "15m"] %}
        union all
        (
            select
                summary.session_date,
                summary.close,
                {{ loop.index }} as preference
            from {{ ref("intraday_session_summary") }} as summary
            where
                summary.instrument_id = newest.instrument_id
                and summary.timeframe = '{{ timeframe }}'
                and summary.session_date < newest.session_date
            order by summary.session_date desc
            limit 1
        )
        {% endfor %}
    ) as earlier
    order by earlier.session_date desc, earlier.preference asc
    limit 1
) as previous on true
