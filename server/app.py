"""The service: vLLM's app over a metered engine, with our routes, reports and errors."""

import gc
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import HttpUrl

from server import vllm_compat as vllm
from server.assembly import metered_engine, report_in_responses
from server.checkpoint import ServedCheckpoint
from server.connection import connection_with
from server.engine import MeteredEngine
from server.exit_control import ExitLimits
from server.keys import InvalidKeysError, keyring_of
from server.log import announce
from server.middleware import add_middlewares
from server.routes import efficiency_routes
from server.settings import ServerSettings
from server.shadow import shadowing
from server.web import WebPage, web_routes

REASONING_PARSERS = {("<think>", "</think>"): "qwen3"}
"""By thinking tags, vLLM's parser that splits ``message.reasoning`` off; others need ``--reasoning-parser``. None for a
model that does not think, whose answers it would take for thinking."""

SHUTDOWN_SECONDS = 30
"""How long requests in flight may go on after SIGTERM; vLLM's own default is to abort them at once."""

YOUNG_OBJECTS = 50_000
"""Made between two collections of garbage, where Python's default is 700. Requests leave no cycles, and streams that
clients leave some hundred objects each; but a search for cycles goes through all that is in flight while they wait."""


def serve(settings: ServerSettings, checkpoint: ServedCheckpoint, options: list[str]) -> None:
    """Serve until a signal ends it.

    Args:
        settings: ours.
        checkpoint: what to serve.
        options: vLLM's own options; they win over our defaults.

    Raises:
        ServerError: the options or the API keys do not fit, the address is taken, vLLM lacks what this server is built
            on, or the engine did not start or died.
    """
    arguments = vllm.parse_arguments(options, vllm_defaults(settings, checkpoint))
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    vllm.run(_serve(arguments, settings, checkpoint))


def vllm_defaults(settings: ServerSettings, checkpoint: ServedCheckpoint) -> dict[str, Any]:
    """Our values for vLLM's options, by their names in its namespace.

    A float32 checkpoint is served as such, because that is how it was calibrated; vLLM would round it to 16 bits.
    """
    return {
        "dtype": "float32" if checkpoint.dtype == "float32" else "auto",
        "model": str(checkpoint.folder),
        "host": settings.host,
        "port": settings.port,
        "served_model_name": [checkpoint.name],
        "reasoning_parser": REASONING_PARSERS.get(checkpoint.think, "") if checkpoint.thinks else "",
        "shutdown_timeout": SHUTDOWN_SECONDS,
        "disable_uvicorn_access_log": True,
        "uvicorn_log_level": "warning",
    }


async def _serve(arguments: Namespace, settings: ServerSettings, checkpoint: ServedCheckpoint) -> None:
    url, socket = vllm.listen(arguments)
    async with application(arguments, settings, checkpoint) as (app, engine):
        model = arguments.served_model_name[0]
        announce(readiness(model, url, checkpoint, settings.shadow_url), settings.log_format)
        protocol = connection_with(settings.max_header_bytes, settings.client_timeout)
        stopped = await vllm.serve_http(app, socket, arguments, protocol)
        died = engine.errored and not engine.draining
    await stopped
    if died:
        raise vllm.ServerError("the engine died; its log says why")


def readiness(model: str, url: str, checkpoint: ServedCheckpoint, shadow: HttpUrl | None = None) -> str:
    """What is said once requests are welcome: what is served, where, and which savings are known."""
    card = checkpoint.card
    known = ["calibrated"] if card and card.calibration else []
    known += [f"shadow requests to {shadow}"] if shadow else []
    savings = " and ".join(known) or "unknown (the checkpoint is not calibrated)"
    lines = (
        f"ready: model {model}, savings {savings}",
        f"  page     {url}/",
        f"  API      {url}/v1",
        f"  metrics  {url}/metrics",
    )
    return "\n".join(lines)


@asynccontextmanager
async def application(
    arguments: Namespace, settings: ServerSettings, checkpoint: ServedCheckpoint
) -> AsyncIterator[tuple[FastAPI, MeteredEngine]]:
    """The finished app over an engine of its own, which ends with the block.

    Raises:
        ServerError: the API keys do not fit, or the engine did not start.
    """
    try:
        keyring = keyring_of(settings.api_keys_file, arguments)
    except InvalidKeysError as error:
        raise vllm.ServerError(str(error)) from error
    async with vllm.started_engine(arguments) as engine:
        metered = metered_engine(engine, arguments.served_model_name[0], checkpoint, ExitLimits.of(settings))
        app = await vllm.build_app(arguments, metered)
        extend(app, metered, settings)
        app.include_router(web_routes(WebPage(markers=checkpoint.markers, compare_url=settings.compare_url)))
        async with shadowing(settings, metered.meter, metered) as shadow:
            add_middlewares(app, metered, settings, keyring, shadow, traced=bool(arguments.otlp_traces_endpoint))
            yield app, metered


def extend(app: FastAPI, engine: MeteredEngine, settings: ServerSettings) -> None:
    """Add our routes and reports to vLLM's finished app."""
    app.include_router(efficiency_routes(engine.meter, engine))
    report_in_responses(app.state, engine, settings)
