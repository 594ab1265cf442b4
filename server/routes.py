"""Our own routes beside vLLM's: readiness, the efficiency summary and the page at ``/``."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from server.metering import Meter
from server.summary import ModelEfficiency


class EfficiencyResponse(BaseModel):
    """Answer of ``GET /v1/efficiency``: one entry per served model, since the server started."""

    object: str = "list"
    data: list[ModelEfficiency]


def efficiency_router(meter: Meter) -> APIRouter:
    """The routes that read from the meter."""
    router = APIRouter()

    @router.get("/v1/efficiency")
    async def efficiency() -> EfficiencyResponse:
        """Tokens and steps per answer, exits and savings of every served model."""
        return EfficiencyResponse(data=meter.summary.models())

    @router.get("/ready")
    async def ready(request: Request) -> Response:
        """200 while the engine accepts requests, else 503."""
        engine: Any = request.app.state.engine_client
        return Response(status_code=503 if engine.errored else 200)

    return router
