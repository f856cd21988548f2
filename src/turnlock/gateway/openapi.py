"""The description of the gateway for programs, made of the table that the routes are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from .. import __version__
from .errors import CODES
from .operations import COMMON, EVENTS, OPERATIONS, PART, Operation, Parameter
from .schemas import SCHEMAS

_PATH: Mapping[str, dict[str, Any]] = {
    "agent": {"type": "string", "pattern": f"^{PART}$"},
    "name": {"type": "string", "pattern": f"^{PART}$"},
    "model": {"type": "string", "minLength": 1},
}
_STRING = {"type": "string"}
# Before OpenAPI 3.2 the schema of a stream is taken for that of each of its events.
_EVENT: Mapping[str, Any] = {
    "description": "One event of the stream; JSON in `data`, but for OpenAI's `[DONE]`.",
    "type": "object",
    "required": ["data"],
    "properties": {"id": _STRING, "event": _STRING, "data": _STRING},
}


@cache
def document() -> dict[str, Any]:
    """The whole, as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnlock's gateway",
            "version": __version__,
            "description": "Errors have OpenAI's form; `error.code` says what happened.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *_other_parameters(operation)],
        "responses": {"200": _answer(operation), **_errors(operation)},
    }
    if operation.is_open:
        made["security"] = []
    if operation.body is not None:
        content = {"application/json": {"schema": _reference(operation.body)}}
        made["requestBody"] = {
            "required": not operation.body_may_be_missing,
            "content": content,
        }
    return made


def _answer(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer != EVENTS:
        content["application/json"] = {"schema": _reference(operation.answer)}
    if operation.streams:
        content[EVENTS] = {"schema": dict(_EVENT)}
    return {"description": operation.summary, "content": content}


def _errors(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in (*COMMON, *operation.codes):
        by_status.setdefault(CODES[code].status, []).append(code)
    answers = {str(status): _error(codes) for status, codes in sorted(by_status.items())}
    if operation.is_open:
        # The only answer with a status of failure that is no error.
        content = {"application/json": {"schema": _reference(operation.answer)}}
        answers["503"] = {"description": "It drains.", "content": content}
    return answers


def _error(codes: Iterable[str]) -> dict[str, Any]:
    said = " ".join(f"`{code}`: {CODES[code].meaning}." for code in codes)
    return {"description": said, "content": {"application/json": {"schema": _reference("Error")}}}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PATH.items()
        if f"{{{name}}}" in operation.path
    ]


def _other_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        *(_parameter(one, "query") for one in operation.query),
        *(_parameter(one, "header") for one in operation.headers),
    ]


def _parameter(one: Parameter, place: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": place,
        "required": False,
        "description": one.meaning,
        "schema": dict(one.schema),
    }


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
