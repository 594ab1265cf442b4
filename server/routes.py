"""Our own routes beside vLLM's: readiness and the efficiency summary."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from server.engine import MeteredEngine
from server.metering import Meter
from server.summary import ModelEfficiency


class EfficiencyList(BaseModel):
    """Answer of ``GET /v1/efficiency``: one entry per served model."""

    object: Literal["list"] = "list"
    data: list[ModelEfficiency]


def efficiency_routes(meter: Meter, engine: MeteredEngine) -> APIRouter:
    """The routes that read from the meter and the engine."""
    router = APIRouter(tags=["stepgrpo"])

    @router.get("/v1/efficiency")
    async def efficiency(
        window: Annotated[
            float | None, Query(gt=0, description="Only the last so many seconds; else since the server started.")
        ] = None,
        model: Annotated[str | None, Query(description="Only this served model.")] = None,
    ) -> EfficiencyList:
        """Requests, tokens and steps per answer, exits and savings of every served model."""
        add_up = meter.summary.snapshot(window, model)
        return EfficiencyList(data=await run_in_threadpool(add_up))  # milliseconds, which streams must not wait for

    @router.get("/ready", responses={503: {"description": "Draining, or the engine is dead."}})
    async def ready() -> Response:
        """Whether new requests are welcome; ``/health`` tells whether the engine lives."""
        return Response(status_code=503 if engine.draining or engine.errored else 200)

    return router
