"""`/docs`: the routes as a page, made of the OpenAPI document; nothing is loaded from elsewhere."""

import json
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem}
details{border:1px solid #8886;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{overflow:auto;background:#8881;padding:.6rem;border-radius:6px}
table{border-collapse:collapse;margin:.5rem 0}
td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
b.m{display:inline-block;min-width:4.5rem}
"""
_METHODS = ("get", "post", "patch", "delete")


def docs_page(document: dict[str, Any]) -> str:
    """Return the page.

    Args:
        document: OpenAPI.
    """
    schemas = document.get("components", {}).get("schemas", {})
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_operation(method, path, operation, schemas))
    body = "".join(
        f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in groups.items()
    )
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(info['title'])}</title>"
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(info['title'])}</h1><p>{escape(info.get('description', ''))}</p>"
        f'<p>For programs: <a href="/openapi.json">/openapi.json</a></p>{body}</html>'
    )


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = "".join(_parameter(each) for each in operation.get("parameters", []))
    parts = [f"<table>{rows}</table>"] if rows else []
    body = _schema_of(operation.get("requestBody", {}), schemas)
    if body is not None:
        parts.append(f"<p>Body</p><pre>{escape(_shown(body, schemas))}</pre>")
    for status, answer in sorted(operation.get("responses", {}).items()):
        found = _schema_of(answer, schemas)
        shown = (
            "" if found is None or status >= "4" else f"<pre>{escape(_shown(found, schemas))}</pre>"
        )
        parts.append(f"<p>{escape(status)} {escape(answer.get('description', ''))}</p>{shown}")
    return (
        f'<details><summary><b class="m">{method.upper()}</b><code>{escape(path)}</code> '
        f"{escape(operation.get('summary', ''))}</summary>{''.join(parts)}</details>"
    )


def _parameter(each: dict[str, Any]) -> str:
    default = each.get("schema", {}).get("default")
    required = "required" if each.get("required") else "" if default is None else f"= {default}"
    return (
        f"<tr><th><code>{escape(each['name'])}</code></th><td>{escape(required)}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
    )


def _schema_of(part: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any] | None:
    schema = part.get("content", {}).get("application/json", {}).get("schema")
    return None if schema is None else _resolved(schema, schemas)


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return a schema itself where it is a name, and what it can be beside null."""
    options = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    if options:
        return _resolved(options[0], schemas)
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = schemas.get(name, {}) if name else schema
    return found


def _shown(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    examples = schema.get("examples")
    shape = examples[0] if examples else _shape(schema, schemas)
    return json.dumps(shape, indent=1, ensure_ascii=False)


def _shape(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return what stands in the place of a value: its form, or what it means."""
    whole = _resolved(schema, schemas)
    if "properties" in whole:
        return {name: _shape(each, schemas) for name, each in whole["properties"].items()}
    if whole.get("type") == "array":
        return [_shape(whole.get("items", {}), schemas)]
    return schema.get("description") or whole.get("type", "any")
