"""The only module of the server that touches vLLM. Supports 0.32 and 0.33; what moved between them is resolved here."""

import os
import signal
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from fastapi import FastAPI

from server.metering import TokenText

CLI_ARGUMENTS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.common.cli_args")
EXPECTED = {
    "vllm.entrypoints.launchers.app": ("build_app",),
    "vllm.entrypoints.launchers.launcher": ("serve_http", "setup_server"),
    "vllm.entrypoints.launchers.api_server.app_state": ("init_app_state",),
    "vllm.entrypoints.launchers.api_server.entry": ("build_async_engine_client",),
    "vllm.entrypoints.launchers.utils.server_utils": ("get_uvicorn_log_config",),
    "vllm.entrypoints.serve.utils.api_utils": ("cli_env_setup",),
    "vllm.utils.argparse_utils": ("FlexibleArgumentParser",),
}
HANDLERS = {"openai_serving_chat": "create_chat_completion", "openai_serving_completion": "create_completion"}


class UnsupportedVllmError(ImportError):
    """The installed vLLM lacks something that this server is built on."""


def check_vllm() -> None:
    """Look up every name that this module needs.

    Raises:
        UnsupportedVllmError: naming what is missing.
    """
    for module, names in EXPECTED.items():
        for name in names:
            _find(module, name)
    _cli_arguments()


def parse_arguments(options: Sequence[str], defaults: dict[str, Any]) -> Namespace:
    """Parse vLLM's own options, with our defaults where the caller gave none."""
    cli = _cli_arguments()
    _find("vllm.entrypoints.serve.utils.api_utils", "cli_env_setup")()
    parser = cli.make_arg_parser(_find("vllm.utils.argparse_utils", "FlexibleArgumentParser")())
    parser.set_defaults(**defaults)
    arguments: Namespace = parser.parse_args(list(options))
    cli.validate_parsed_serve_args(arguments)
    return arguments


async def run(arguments: Namespace, wrap: Callable[[Any, TokenText], Any], extend: Callable[[FastAPI], None]) -> None:
    """Start the engine and serve vLLM's app over it until a signal ends it.

    Args:
        arguments: from :func:`parse_arguments`.
        wrap: makes the engine object that the app is built on from vLLM's.
        extend: adds routes and reports to the finished app.
    """
    launcher = import_module("vllm.entrypoints.launchers.launcher")
    entry = import_module("vllm.entrypoints.launchers.api_server.entry")
    signal.signal(signal.SIGTERM, _interrupt)
    _, socket = launcher.setup_server(arguments, reuse_port=False)
    async with entry.build_async_engine_client(arguments) as engine:
        app = await _build(arguments, engine, wrap(engine, _Text(engine.get_tokenizer())))
        extend(app)
        shutdown = await launcher.serve_http(
            app,
            sock=socket,
            enable_ssl_refresh=arguments.enable_ssl_refresh,
            host=arguments.host,
            port=arguments.port,
            log_level=arguments.uvicorn_log_level,
            access_log=not arguments.disable_uvicorn_access_log,
            timeout_keep_alive=import_module("vllm.envs").VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
            ssl_keyfile=arguments.ssl_keyfile,
            ssl_certfile=arguments.ssl_certfile,
            ssl_ca_certs=arguments.ssl_ca_certs,
            ssl_cert_reqs=arguments.ssl_cert_reqs,
            ssl_ciphers=arguments.ssl_ciphers,
            h11_max_incomplete_event_size=arguments.h11_max_incomplete_event_size,
            h11_max_header_count=arguments.h11_max_header_count,
            **_log_config(arguments),
        )
    try:
        await shutdown
    finally:
        socket.close()


async def _build(arguments: Namespace, engine: Any, wrapped: Any) -> FastAPI:
    tasks = await engine.get_supported_tasks()
    build_app = _find("vllm.entrypoints.launchers.app", "build_app")
    init_app_state = _find("vllm.entrypoints.launchers.api_server.app_state", "init_app_state")
    app: FastAPI = build_app(arguments, tasks, engine.model_config)
    await init_app_state(wrapped, app.state, arguments, tasks)
    return app


def wrap_handlers(app: FastAPI, wrap: Callable[[Any], Any]) -> None:
    """Replace the methods that answer chat and text completions by wrapped ones."""
    for attribute, method in HANDLERS.items():
        handler = getattr(app.state, attribute)
        setattr(handler, method, wrap(getattr(handler, method)))


class _Text:
    """Text of token ids, by the served model's own tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "_tokenizer", None)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a token sequence, special tokens included."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def stream(self) -> Callable[[int], str]:
        """A new incremental decoder; it holds back bytes until they make a character."""
        from tokenizers.decoders import DecodeStream

        if self._backend is None:
            return lambda token: self.decode([token])
        step = partial(DecodeStream(skip_special_tokens=False).step, self._backend)
        return lambda token: step(token) or ""


def _cli_arguments() -> Any:
    for module in CLI_ARGUMENTS:
        try:
            return import_module(module)
        except ModuleNotFoundError:
            continue
    raise UnsupportedVllmError(f"this vLLM has none of {', '.join(CLI_ARGUMENTS)}; supported are 0.32 and 0.33")


def _find(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UnsupportedVllmError(f"this vLLM has no {module}.{name}; supported are 0.32 and 0.33") from error


def _log_config(arguments: Namespace) -> dict[str, Any]:
    config = _find("vllm.entrypoints.launchers.utils.server_utils", "get_uvicorn_log_config")(arguments)
    return {} if config is None else {"log_config": config}


def _interrupt(*_: object) -> None:
    """SIGTERM while the engine starts; once the server runs it installs its own handler."""
    raise KeyboardInterrupt


def prepare_environment() -> None:
    """Defaults for a machine without a GPU, each only where the environment says nothing."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
