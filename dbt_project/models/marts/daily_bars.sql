{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "session_date"],
    on_schema_change="fail",
) }}

-- Returns depend on a session's own bar and on the one before it: a changed bar rebuilds its
-- instrument from that session on. Factors depend on later corporate actions too: a changed action
-- rebuilds its whole instrument, and so does a bar before a dividend, which is measured by a close.
with actions as (
    select
        instrument_id,
        max(updated_at) as updated_at,
        max(ex_date) filter (where applied and kind = 'dividend') as last_dividend_date
    from {{ source("reference", "corporate_actions") }}
    group by instrument_id
),

bars as not materialized (
    select
        bars.*,
        greatest(bars.ingested_at, actions.updated_at) as built_from_ingested_at,
        coalesce(bars.adj_close, bars.close) as adjusted_close,
        case when bars.adj_close is null then 'none' else bars.source end as adjustment_source
    from {{ ref("stg_bars_daily") }} as bars
    left join actions on bars.instrument_id = actions.instrument_id
),

{% if is_incremental() %}
changed as (
    {{ changed_rows("bars", ["instrument_id", "session_date"]) }}
),

starts as (
    select
        changed.instrument_id,
        case
            when min(changed.session_date) < max(actions.last_dividend_date) then '-infinity'::date
            else min(changed.session_date)
        end as from_session_date
    from changed
    left join actions on changed.instrument_id = actions.instrument_id
    group by changed.instrument_id
),

-- Of what stays as it is, the last session before is all that is needed.
rebuild as materialized (
    select
        starts.*,
        coalesce(
            (
                select max(built.session_date)
                from {{ this }} as built
                where
                    built.instrument_id = starts.instrument_id
                    and built.session_date < starts.from_session_date
            ),
            '-infinity'::date
        ) as read_from_date
    from starts
),
{% endif %}

-- The product of all splits that go ex after a date is constant between two of them.
shares as materialized (
    select
        instrument_id,
        lag(ex_date, 1, '-infinity'::date) over in_order as from_date,
        ex_date as until_date,
        reference.product(1 / ratio) over (
            partition by instrument_id
            order by ex_date desc
        ) as factor
    from {{ source("reference", "corporate_actions") }}
    where kind = 'split' and applied
    window in_order as (partition by instrument_id order by ex_date)
),

with_shares as materialized (
    select
        bars.*,
        coalesce(basis.factor, 1) as split_factor,
        coalesce(traded.factor, 1) as traded_factor
    from bars
    {% if is_incremental() %}
    inner join rebuild
        on
            bars.instrument_id = rebuild.instrument_id
            and bars.session_date >= rebuild.read_from_date
    {% endif %}
    left join shares as basis
        on
            bars.instrument_id = basis.instrument_id
            and bars.basis_date >= basis.from_date
            and bars.basis_date < basis.until_date
    left join shares as traded
        on
            bars.instrument_id = traded.instrument_id
            and bars.session_date >= traded.from_date
            and bars.session_date < traded.until_date
    {% if is_incremental() %}
    -- Leaves out the partitions before.
    where
        bars.ts >= (
            select min(earliest.read_from_date)::timestamp at time zone 'UTC'
            from rebuild as earliest
        )
    {% endif %}
),

-- A dividend lowers its last session before the ex-date and all earlier ones. One pass in the order
-- of days finds those sessions; a lookup for each dividend would open every partition every time.
dividends as (
    select
        placed.instrument_id,
        placed.session_date,
        reference.product(
            1 - placed.amount * coalesce(ex_shares.factor, 1) / (bars.close * bars.split_factor)
        ) as factor
    from (
        select
            days.instrument_id,
            days.ex_date,
            days.amount,
            max(days.session_date) over (
                partition by days.instrument_id
                order by days.day
            ) as session_date
        from (
            select
                instrument_id,
                session_date as day,
                session_date,
                null::date as ex_date,
                null::double precision as amount
            from with_shares
            union all
            select
                instrument_id,
                ex_date - 1 as day,
                null as session_date,
                ex_date,
                amount
            from {{ source("reference", "corporate_actions") }}
            where kind = 'dividend' and applied
        ) as days
    ) as placed
    inner join with_shares as bars
        on
            placed.instrument_id = bars.instrument_id
            and placed.session_date = bars.session_date
    left join shares as ex_shares
        on
            placed.instrument_id = ex_shares.instrument_id
            and placed.ex_date >= ex_shares.from_date
            and placed.ex_date < ex_shares.until_date
    where
        placed.ex_date is not null
        and placed.amount * coalesce(ex_shares.factor, 1) < bars.close * bars.split_factor
    group by placed.instrument_id, placed.session_date
),

with_previous as (
    select
        bars.*,
        reference.product(coalesce(dividends.factor, 1)) over (
            partition by bars.instrument_id
            order by bars.session_date desc
        ) as dividend_factor,
        lag(bars.session_date) over sessions as previous_session_date,
        lag(bars.close) over sessions as previous_close,
        lag(bars.traded_factor) over sessions as previous_traded_factor,
        lag(bars.adjusted_close) over sessions as previous_adjusted_close,
        lag(bars.adjustment_source) over sessions as previous_adjustment_source
    from with_shares as bars
    left join dividends
        on
            bars.instrument_id = dividends.instrument_id
            and bars.session_date = dividends.session_date
    window sessions as (partition by bars.instrument_id order by bars.session_date)
)

select
    daily.market,
    daily.symbol,
    daily.instrument_id,
    daily.session_date,
    daily.open,
    daily.high,
    daily.low,
    daily.close,
    daily.volume,
    daily.adjusted_close,
    daily.adjustment_source,
    daily.split_factor,
    daily.dividend_factor,
    daily.close * daily.split_factor as close_split_adjusted,
    daily.close * daily.split_factor * daily.dividend_factor as close_adjusted,
    coalesce(daily.traded_factor <> daily.previous_traded_factor, false) as is_split_day,
    daily.previous_session_date,
    daily.previous_close,
    daily.close / nullif(daily.previous_close, 0) - 1 as return_raw,
    case
        -- Across two bases the quotient would be a change of basis, not of price.
        when daily.adjustment_source = daily.previous_adjustment_source
            then daily.adjusted_close / nullif(daily.previous_adjusted_close, 0) - 1
    end as return_adjusted,
    daily.open / nullif(daily.previous_close, 0) - 1 as gap,
    100 * (daily.high - daily.low) / nullif(daily.open, 0) as range_percent,
    daily.source,
    daily.is_simulated,
    daily.is_final,
    daily.built_from_ingested_at
from with_previous as daily
{% if is_incremental() %}
inner join rebuild on daily.instrument_id = rebuild.instrument_id
where daily.session_date >= rebuild.from_session_date
{% endif %}
