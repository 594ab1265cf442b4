"""Ray Serve applications: replicas of the server's own FastAPI app, and the list of them for Prometheus.

``serve deploy deploy/ray/serve.yaml`` starts both. Each replica has an engine of its own, and a port of its own for its
metrics: through Ray's proxy, ``/metrics`` would be those of whichever replica was asked.
"""

import asyncio
import logging
import urllib.request
from contextlib import AsyncExitStack
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import ray
from fastapi import FastAPI
from prometheus_client import make_wsgi_app
from ray import serve

TARGETS = "stepgrpo-targets"
PROBE_SECONDS = 2
ANNOUNCE_SECONDS = 5

logger = logging.getLogger(__name__)


class Addresses:
    """Where the replicas' metrics are. Replicas are added while others are probed, by other threads."""

    def __init__(self) -> None:
        self._by_replica: dict[str, str] = {}

    def add(self, replica: str, address: str) -> None:
        """List a replica's metrics.

        Args:
            replica: its id.
            address: ``host:port``.
        """
        self._by_replica[replica] = address

    def listed(self) -> list[dict[str, Any]]:
        """Those that answer, in the form of Prometheus's HTTP service discovery.

        The others are forgotten: Ray has replaced them, or they add themselves again at their next health check.
        """
        for replica, address in list(self._by_replica.items()):
            if not _answers(address):
                self._by_replica.pop(replica, None)
        return [{"targets": [each], "labels": {"replica": replica}} for replica, each in list(self._by_replica.items())]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=PROBE_SECONDS):
            return True
    except (OSError, HTTPException):  # the latter from whatever program has taken a dead replica's port
        return False


@serve.deployment(ray_actor_options={"num_cpus": 0})
@serve.ingress()
class Targets:
    """Where the replicas' metrics are, for Prometheus's HTTP service discovery."""

    def __init__(self) -> None:
        self._addresses = Addresses()

    def add(self, replica: str, address: str) -> None:
        """:meth:`Addresses.add`, for the replicas."""
        self._addresses.add(replica, address)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray calls for the app."""
        app = FastAPI()
        app.get("/")(self._addresses.listed)
        return app


def metrics(environ: dict[str, Any], start_response: Any) -> Any:
    """The process's metrics as plain text, also for clients that prefer OpenMetrics: that would rename ``vllm:*``."""
    environ.pop("HTTP_ACCEPT", None)
    return make_wsgi_app()(environ, start_response)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log no scrape."""


@serve.deployment
@serve.ingress()
class Server:
    """One replica: an engine, and the app that ``stepgrpo serve`` serves."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, checkpoint: str | None = None, options: list[str] | None = None
    ) -> None:
        """Start the engine.

        Args:
            checkpoint: its folder, on every node; the bundled one by default.
            options: vLLM's own, such as ``--tensor-parallel-size``. ``STEPGRPO_*`` variables set our settings.

        Raises:
            CheckpointError: the checkpoint cannot be served.
            ServerError: the engine did not start.
        """
        from server import vllm_compat
        from server.app import application, vllm_defaults
        from server.checkpoint import load_checkpoint
        from server.settings import load_settings

        settings = load_settings({"checkpoint": Path(checkpoint)} if checkpoint else {})
        found = load_checkpoint(settings.checkpoint)
        arguments = vllm_compat.parse_arguments(options or [], vllm_defaults(settings, found))
        self._stack = AsyncExitStack()
        self._asgi, self._engine = await self._stack.enter_async_context(application(arguments, settings, found))
        node = ray.util.get_node_ip_address()
        metrics_server = make_server(node, 0, metrics, handler_class=_Quiet)
        Thread(target=metrics_server.serve_forever, daemon=True).start()
        self._metrics_address = f"{node}:{metrics_server.server_port}"

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray calls for the app."""
        return self._asgi

    async def check_health(self) -> None:
        """Let Ray replace a replica whose engine died, and list the metrics of one that lives.

        Ray calls it before the first request and every few seconds after. So a list that was lost, with the process
        that kept it, or for a probe that came too late, is whole again soon.
        """
        if self._engine.errored:
            raise RuntimeError("the engine died")
        try:
            await asyncio.wait_for(self._announce(), ANNOUNCE_SECONDS)
        except Exception:  # a replica that is not listed still serves
            logger.warning("the replica's metrics could not be listed for Prometheus", exc_info=True)

    async def _announce(self) -> None:
        targets = serve.get_deployment_handle("Targets", TARGETS)
        replica = serve.get_replica_context().replica_id.unique_id
        await targets.add.remote(replica, self._metrics_address)

    async def __del__(self) -> None:
        """End the engine, after Ray has let the requests in flight finish."""
        await self._stack.aclose()


def targets(_: dict[str, str]) -> serve.Application:
    """The application ``stepgrpo-targets``."""
    return Targets.bind()  # type: ignore[attr-defined]  # of Ray's decorator


def server(arguments: dict[str, Any]) -> serve.Application:
    """The application ``stepgrpo``.

    Args:
        arguments: those of :class:`Server`, by name.
    """
    return Server.bind(**arguments)  # type: ignore[attr-defined]  # of Ray's decorator
