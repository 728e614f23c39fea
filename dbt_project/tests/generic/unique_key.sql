{#- Fails for each key that occurs more than once, and for each row whose key is not complete. -#}
{% test unique_key(model, columns) %}

select {{ columns | join(", ") }}, count(*) as occurrences
from {{ model }}
group by {{ columns | join(", ") }}
having count(*) > 1 {% for column in columns %}or {{ column }} is null {% endfor %}

{% endtest %}
