"""The page that describes the HTTP API, made of its OpenAPI description; it loads nothing and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from ...templates import render


async def reference_page(request: Request) -> HTMLResponse:
    """All operations with their parameters, fields and examples."""
    described = request.app.openapi()
    groups = [{**tag, "operations": list(_operations(described, tag["name"]))} for tag in described.get("tags", [])]
    return HTMLResponse(render(__package__, "reference.html.j2", info=described["info"], groups=groups))


def _operations(described: dict[str, Any], tag: str) -> Iterator[dict[str, Any]]:
    schemas = described.get("components", {}).get("schemas", {})
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if tag in operation.get("tags", ()):
                body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
                schema = _resolved(body, schemas)
                yield {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("summary", ""),
                    "description": operation.get("description", ""),
                    "parameters": [*map(_parameter, operation.get("parameters", []))],
                    "fields": list(_fields(schema, schemas)),
                    "example": _example(schema),
                    "answers": list(_answers(operation)),
                }


def _resolved(schema: dict[str, Any] | None, schemas: dict[str, Any]) -> dict[str, Any]:
    if schema is None:
        return {}
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = schemas.get(name, schema)
    return found


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    text = parameter.get("description") or parameter.get("schema", {}).get("description", "")
    return {"name": parameter["name"], "kind": parameter["in"], "description": text}


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, field in schema.get("properties", {}).items():
        yield {
            "name": name,
            "kind": _kind(field, schemas),
            "required": name in schema.get("required", ()),
            "default": json.dumps(field["default"]) if field.get("default") not in (None, "", {}) else "",
            "description": field.get("description", ""),
        }


def _kind(field: dict[str, Any], schemas: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(one, schemas) for one in field["anyOf"] if one.get("type") != "null"))
    if "enum" in field or "const" in field:
        return " | ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    if "$ref" in field:
        inner = ", ".join(_resolved(field, schemas).get("properties", {}))
        return f"object ({inner})"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), schemas)}"
    return str(field.get("type", "anything"))


def _example(schema: dict[str, Any]) -> str:
    example = (schema.get("examples") or [None])[0]
    if example is None:
        example = {
            name: field["examples"][0] for name, field in schema.get("properties", {}).items() if field.get("examples")
        }
    return json.dumps(example, indent=2, ensure_ascii=False) if example else ""


def _answers(operation: dict[str, Any]) -> Iterator[dict[str, str]]:
    for status, answer in operation.get("responses", {}).items():
        for kind, content in answer.get("content", {}).items():
            example = content.get("example")
            if example is not None:
                text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
                yield {"status": status, "kind": kind, "description": answer["description"], "example": text}
