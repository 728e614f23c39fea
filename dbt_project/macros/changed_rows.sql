{#-
Which rows of an incremental mart have to be built again.

Every mart row keeps `built_from_ingested_at`, the newest `ingested_at` (or `updated_at`) among the
source rows of its key. A row is out of date when the source has another value for that key today,
or when the mart has no such row, or when the instrument has changed its code. Comparing per key,
not with the mart's newest watermark, also finds rows that were committed late, restored with their
old stamps, or that belong to an instrument or market that has just been added.

    upstream: CTE with market, symbol, built_from_ingested_at and the key columns
    key: key columns of the mart
-#}
{% macro changed_rows(upstream, key) %}
    select
        {{ upstream }}.market,
        {% for column in key -%}
        {{ upstream }}.{{ column }}{{ "," if not loop.last }}
        {% endfor %}
    from {{ upstream }}
    left join {{ this }} as built
        on {% for column in key -%}
            {{ upstream }}.{{ column }} = built.{{ column }}{{ " and " if not loop.last }}
        {%- endfor %}
    where
        (
            built.built_from_ingested_at is distinct from {{ upstream }}.built_from_ingested_at
            or built.symbol is distinct from {{ upstream }}.symbol
        )
        {% if var("changed_since") -%}
        and {{ upstream }}.built_from_ingested_at >= '{{ var("changed_since") }}'::timestamptz
        {%- endif %}
{% endmacro %}
