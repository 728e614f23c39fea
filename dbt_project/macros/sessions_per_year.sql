{#- SQL for the sessions in a year of the row's market. -#}
{% macro sessions_per_year() -%}
    case market
        {% for market, sessions in var("sessions_per_year").items() -%}
        when '{{ market }}' then {{ sessions }}
        {% endfor -%}
    end
{%- endmacro %}
