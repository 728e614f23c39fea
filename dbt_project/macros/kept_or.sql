{#-
SQL for a column whose source rows are removed after a time: what was built from them stays.

    part: column of the relation `keeps` that says whether the row keeps what was built
    column: column of the mart
    fresh: SQL for its value by the source as it is
-#}
{% macro kept_or(part, column, fresh) -%}
    {%- if is_incremental() -%}
    case when keeps.{{ part }} then built.{{ column }} else {{ fresh }} end as {{ column }}
    {%- else -%}
    {{ fresh }} as {{ column }}
    {%- endif -%}
{%- endmacro %}
