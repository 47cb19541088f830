"""What the OpenAPI document says beyond what FastAPI finds out by itself."""

from __future__ import annotations

__all__ = ["SHOWERS", "describe", "problems"]

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from caloray.serving.documents import ErrorBody, ShowerReply
from caloray.serving.replies import ARROW, JSON
from caloray.serving.request import ShowerRequest

_MEANINGS = {
    400: "The request is not HTTP that can be answered.",
    401: "No token, or another one.",
    404: "No such model.",
    406: "No such form of reply.",
    408: "The body did not come in time.",
    413: "The body is too long.",
    415: "The body is not plain JSON.",
    422: "A field is wrong, out of its range or unknown; or the model gives no valid shower.",
    503: "Too many requests are waiting, or the model is not ready; `Retry-After` tells when to come back.",
}
_RETRY = {"Retry-After": {"description": "Whole seconds.", "schema": {"type": "integer"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` entries of some statuses."""
    return {
        status: {
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
            "description": _MEANINGS[status],
            **({"headers": _RETRY} if status == 503 else {}),
        }
        for status in statuses
    }


SHOWERS: dict[str, Any] = {
    "tags": ["showers"],
    "responses": {
        200: {
            "description": "The showers.",
            "content": {
                ARROW: {"schema": {"type": "string", "format": "binary"}},
                JSON: {"schema": {"$ref": "#/components/schemas/ShowerReply"}},
            },
        },
        **problems(400, 401, 404, 406, 408, 413, 415, 422, 503),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/ShowerRequest"}}},
        }
    },
}
"""The route of ``POST /v1/showers``: its body is read and checked by our own code."""


def describe(app: FastAPI) -> None:
    """Let the application's document know the request and the reply for showers, and the token."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            parts = found.setdefault("components", {})
            schemas = parts.setdefault("schemas", {})
            for model in (ShowerRequest, ShowerReply, ErrorBody):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path in ("/v1/showers", "/v1/models", "/metrics"):
                for operation in found["paths"][path].values():
                    operation["security"] = [{"token": []}, {}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
