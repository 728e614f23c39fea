{#- Fails for each row in which one of `rules` (SQL conditions) is false; unknown is no failure. -#}
{% test holds(model, rules) %}

select *
from {{ model }}
where not (
    {% for rule in rules -%}
    coalesce({{ rule }}, true){{ " and " if not loop.last }}
    {% endfor %}
)

{% endtest %}
