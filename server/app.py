"""The service: vLLM's app over a metered engine, with our routes and reports."""

import asyncio
from typing import Any

from fastapi import FastAPI

from server.checkpoint import ServedCheckpoint
from server.engine import MeteredEngine
from server.metering import Meter, TokenText
from server.metrics import EfficiencyMetrics
from server.responses import with_reports
from server.routes import efficiency_router
from server.savings import baseline_of
from server.settings import ServerSettings
from server.vllm_compat import check_vllm, parse_arguments, prepare_environment, run, wrap_handlers

REASONING_PARSER = "qwen3"


def serve(settings: ServerSettings, checkpoint: ServedCheckpoint, options: list[str]) -> None:
    """Serve until a signal ends it. ``options`` are vLLM's own and win over our defaults."""
    prepare_environment()
    check_vllm()
    arguments = parse_arguments(options, vllm_defaults(settings, checkpoint))
    models = tuple(arguments.served_model_name)
    baseline = baseline_of(checkpoint.card)
    metrics = EfficiencyMetrics(models)
    for model in models:
        metrics.describe(model, checkpoint.card)
    meters: list[Meter] = []

    def wrap(engine: Any, text: TokenText) -> MeteredEngine:
        meters.append(Meter(checkpoint, baseline, metrics, text, models))
        return MeteredEngine(engine, meters[0])

    def extend(app: FastAPI) -> None:
        app.include_router(efficiency_router(meters[0]))
        wrap_handlers(app, lambda handler: with_reports(handler, meters[0]))
        print(f"serving {', '.join(models)} on http://{arguments.host}:{arguments.port}", flush=True)

    asyncio.run(run(arguments, wrap, extend))


def vllm_defaults(settings: ServerSettings, checkpoint: ServedCheckpoint) -> dict[str, Any]:
    """Our values for vLLM's options."""
    defaults: dict[str, Any] = {
        "model": checkpoint.source,
        "host": settings.host,
        "port": settings.port,
        "served_model_name": [settings.model_name],
        "shutdown_timeout": settings.shutdown_timeout,
        "disable_uvicorn_access_log": True,
    }
    if checkpoint.think == ("<think>", "</think>"):
        defaults["reasoning_parser"] = REASONING_PARSER
    return defaults
