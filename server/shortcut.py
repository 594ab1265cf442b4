"""The parts of a response on a shortcut, past the middlewares that look at its head alone.

A stream has a part for every token, and each of vLLM's middlewares would take it in hand only to pass it on.
"""

from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from server.outlet import OUTLET, Outlet

HEADS_ALONE: Final = frozenset(
    {
        "fastapi.middleware.asyncexitstack.AsyncExitStackMiddleware",
        "prometheus_fastapi_instrumentator.middleware.PrometheusInstrumentatorMiddleware",
        "starlette.middleware.cors.CORSMiddleware",
        "starlette.middleware.errors.ServerErrorMiddleware",
        "starlette.middleware.exceptions.ExceptionMiddleware",
        "vllm.entrypoints.serve.elastic_ep.middleware.ScalingMiddleware",
        "vllm.entrypoints.serve.middleware.authenticate.AuthenticationMiddleware",
        "vllm.entrypoints.serve.middleware.x_request_id.XRequestIdMiddleware",
    }
)
"""Middlewares that pass the parts of a response on as they are. Any other, as ``--middleware`` adds them, sees all."""


class Shortcut:
    """Middleware in front of an app's router: heads take the long way out, parts the short one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        await self._app(scope, receive, Outlet(send, scope[OUTLET]) if scope["type"] == "http" else send)


def can_be_passed(app: FastAPI) -> bool:
    """Whether all middlewares of an app are known to look at heads alone. Its stack has been built."""
    layer: Any = app.middleware_stack
    while layer is not app.router:
        if f"{type(layer).__module__}.{type(layer).__qualname__}" not in HEADS_ALONE:
            return False
        layer = layer.app
    return True
