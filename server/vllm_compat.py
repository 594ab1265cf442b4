"""The only module of the server that touches vLLM. Supports 0.32 and 0.33; what moved between them is resolved here."""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
from argparse import Namespace
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any, Final

from fastapi import FastAPI

from server.steering import Piece
from server.token_stream import TokenStream

SUPPORTED: Final = "0.32 and 0.33"
NEEDED: Final = {
    "build_app": ("vllm.entrypoints.launchers.app",),
    "build_async_engine_client": ("vllm.entrypoints.launchers.api_server.entry",),
    "cli_env_setup": ("vllm.entrypoints.common.startup", "vllm.entrypoints.serve.utils.api_utils"),
    "configure_logging_from_args": ("vllm.logger",),
    "enable_envs_cache": ("vllm.envs",),
    "EngineDeadError": ("vllm.v1.engine.exceptions",),
    "EngineGenerateError": ("vllm.v1.engine.exceptions",),
    "FlexibleArgumentParser": ("vllm.utils.argparse_utils",),
    "get_uvicorn_log_config": ("vllm.entrypoints.launchers.utils.server_utils",),
    "IncrementalDetokenizer": ("vllm.v1.engine.detokenizer",),
    "init_app_state": ("vllm.entrypoints.launchers.api_server.app_state",),
    "make_arg_parser": ("vllm.entrypoints.common.cli_args", "vllm.entrypoints.launchers.cli_args"),
    "RequestOutputKind": ("vllm.sampling_params",),
    "serve_http": ("vllm.entrypoints.launchers.launcher",),
    "setup_server": ("vllm.entrypoints.launchers.launcher",),
    "validate_parsed_serve_args": ("vllm.entrypoints.common.cli_args", "vllm.entrypoints.launchers.cli_args"),
    "VLLMValidationError": ("vllm.exceptions",),
}
"""Names of vLLM and where they are, the newest place first."""
HANDLERS: Final = {
    "openai_serving_chat": "create_chat_completion",
    "openai_serving_chat_batch": "create_batch_chat_completion",
    "openai_serving_completion": "create_completion",
    "openai_serving_responses": "create_responses",
}
"""Attributes of the app's state, and the method of each that answers a request."""
LAZY: Final = "openai_serving_responses"
"""The handler whose streams call the engine only when they are read."""
MODELS: Final = "openai_serving_models"
"""What loads and unloads adapters."""
PROMPT_TEXTS: Final = ("prompt", "prompt_token_offsets")
"""What an engine prompt says of the text of its tokens."""
SEED_STRIDE: Final = 1_000_003
"""Between the seeds of a choice's pieces, so that neither they nor those of other choices draw alike."""
ABANDON_SECONDS: Final = 5
"""How long the engine's processes get to end by themselves when a start is given up."""


class ServerError(Exception):
    """The server cannot start or go on; the message is one line that says why."""


def check_vllm() -> None:
    """Look up every name that this module needs.

    Raises:
        ServerError: naming what the installed vLLM lacks.
    """
    for name in NEEDED:
        _find(name)


def prepare_environment() -> None:
    """Quiet, private, small defaults, each only where the environment says nothing. Before vLLM is imported."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def parse_arguments(options: Sequence[str], defaults: dict[str, Any]) -> Namespace:
    """Parse vLLM's own options, with our defaults where the caller gave none. Unknown ones end the process.

    Raises:
        ServerError: an option that this server decides itself or cannot honour, or an unsupported vLLM.
    """
    prepare_environment()
    check_vllm()
    _find("cli_env_setup")()
    parser = _find("make_arg_parser")(_find("FlexibleArgumentParser")(prog="stepgrpo serve"))
    parser.set_defaults(**defaults)
    arguments: Namespace = parser.parse_args(list(options))
    if arguments.model_tag is not None or arguments.model != defaults["model"]:
        raise ServerError(f"give the checkpoint first, before vLLM's options: {arguments.model_tag or arguments.model}")
    if arguments.headless or arguments.grpc or (arguments.api_server_count or 1) > 1:
        raise ServerError("--headless, --grpc and more than one API server are not supported")
    _find("configure_logging_from_args")(arguments)
    try:
        _find("validate_parsed_serve_args")(arguments)
    except (TypeError, ValueError) as error:
        raise ServerError(str(error)) from error
    return arguments


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run the server's main coroutine on vLLM's event loop."""
    import_module("uvloop").run(main)


def listen(arguments: Namespace) -> tuple[str, socket.socket]:
    """Bind the address before the engine starts; returns its URL and the socket.

    Raises:
        ServerError: the address is taken or not ours, or a parser's name is unknown.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):  # until the HTTP server installs its own handlers
        signal.signal(signum, _abandon_start)
    try:
        url, bound = _find("setup_server")(arguments, reuse_port=False)
    except OSError as error:
        raise ServerError(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}") from error
    except KeyError as error:
        raise ServerError(str(error.args[0])) from error
    return url, bound


@asynccontextmanager
async def started_engine(arguments: Namespace) -> AsyncIterator[Any]:
    """Start the engine; yields vLLM's client of it and shuts it down at the end.

    Raises:
        ServerError: the engine did not start; its own log says more.
    """
    build = _find("build_async_engine_client")
    async with AsyncExitStack() as stack:
        try:
            engine = await stack.enter_async_context(build(arguments))
        except Exception as error:
            raise ServerError(f"the engine did not start: {' '.join(str(error).split())}") from error
        yield engine


async def build_app(arguments: Namespace, engine: Any) -> FastAPI:
    """Build vLLM's own app, its handlers on ``engine``."""
    logging.getLogger("vllm.plugins").addFilter(_is_news)
    tasks = await engine.get_supported_tasks()
    app: FastAPI = _find("build_app")(arguments, tasks, engine.model_config)
    await _find("init_app_state")(engine, app.state, arguments, tasks)
    return app


def hand_over(state: Any, engine: Any, ours: Any) -> None:
    """Let an app and its handlers, built on ``engine``, call ``ours`` from now on; so does vLLM when it shuts down."""
    for name, part in list(vars(state)["_state"].items()):
        if part is engine:
            setattr(state, name, ours)
        elif getattr(part, "engine_client", None) is engine:
            part.engine_client = ours


def loaded_adapters(state: Any) -> list[Any]:
    """The adapters that the options named, which vLLM loads before it calls its plug-ins."""
    return list(state.openai_serving_models.lora_requests.values())


def wrap_handlers(
    state: Any,
    *,
    answering: Callable[..., Any],
    finishing: Callable[[Any], Any],
    beams: Callable[[Any], Any],
    unloading: Callable[[Any], Any],
) -> None:
    """Replace methods of vLLM's handlers by wrapped ones.

    Args:
        state: of the app.
        answering: wraps those that answer requests; ``lazy`` says that their streams call the engine when read.
        finishing: wraps the one that puts together a finished object of the Responses API.
        beams: wraps their beam search.
        unloading: wraps what unloads an adapter.
    """
    for attribute, method in HANDLERS.items():
        handler = getattr(state, attribute, None)
        if handler is not None:
            setattr(handler, method, answering(getattr(handler, method), lazy=attribute == LAZY))
            if hasattr(handler, "beam_search"):
                handler.beam_search = beams(handler.beam_search)
    responses = getattr(state, LAZY, None)
    if responses is not None:
        responses.responses_full_generator = finishing(responses.responses_full_generator)
    models = getattr(state, MODELS, None)
    if models is not None:
        models.unload_lora_adapter = unloading(models.unload_lora_adapter)


def invalid_request(message: str, param: str) -> Exception:
    """The exception that vLLM's app answers with status 400."""
    error: Exception = _find("VLLMValidationError")(message, parameter=param)
    return error


def engine_failures() -> tuple[type[Exception], ...]:
    """What requests that the engine has taken on end with where it fails; any other exception refuses one."""
    return _find("EngineDeadError"), _find("EngineGenerateError")


async def serve_http(
    app: FastAPI, bound: socket.socket, arguments: Namespace, protocol: type[asyncio.Protocol]
) -> Awaitable[None]:
    """Answer requests until a signal comes or the engine dies; the result is to be awaited after the engine's end.

    vLLM looks an environment variable up for every token of a stream. From here on none of its variables changes, so
    each is read once, as its engine does, too.
    """
    _find("enable_envs_cache")()
    log_config = _find("get_uvicorn_log_config")(arguments)
    stopped: Awaitable[None] = await _find("serve_http")(
        app,
        sock=bound,
        http=protocol,
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
        **({} if log_config is None else {"log_config": log_config}),
    )
    return stopped


class VllmText:
    """Text of token ids, by the served model's own tokenizer."""

    def __init__(self, tokenizer: Any, think: tuple[str, str]) -> None:
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "_tokenizer", None)
        added = {token: str(text) for token, text in getattr(tokenizer, "added_tokens_decoder", {}).items()}
        self._added = {text: token for token, text in added.items()}
        template = str(getattr(tokenizer, "chat_template", ""))
        tags = {token for token, text in added.items() if text in think}
        self._special = frozenset(getattr(tokenizer, "all_special_ids", ())) - tags
        bytewise = type(getattr(self._backend, "decoder", None)).__name__ == "ByteLevel"
        self._known: dict[int, str] | None = {} if bytewise else None
        self.landmarks = self._special | {token for token, text in added.items() if text in template} - tags

    def token(self, text: str) -> int | None:
        """The added token that stands for this text; in a prompt it is never spelled in others."""
        return self._added.get(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a token sequence, special tokens included."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, no special ones added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decoder(self, after: Sequence[int]) -> Callable[[int], str]:
        """A decoder of the tokens that follow ``after``, special ones included.

        Raises:
            VLLMValidationError: the tokenizer cannot decode token by token.
        """
        if self._backend is None:
            raise invalid_request(
                "max_reasoning_steps and early_exit need a fast tokenizer, which this model does not have",
                "max_reasoning_steps",
            )
        return TokenStream(self._backend, frozenset(), self._known, after).next

    def stream(self, skip_special: bool) -> Callable[[Sequence[int]], list[str]] | None:
        """A new incremental decoder, the one that vLLM's own detokenizer uses; None for tokenizers without it.

        With ``skip_special``, special tokens have no text, save the thinking tags.
        """
        if self._backend is None:
            return None
        return TokenStream(self._backend, self._special if skip_special else frozenset(), self._known).texts


class VllmPieces:
    """Samples parts of requests on vLLM's engine.

    Args:
        engine: vLLM's client of it.
        text: its tokenizer.
    """

    def __init__(self, engine: Any, text: VllmText) -> None:
        self._engine = engine
        self.text = text

    def detokenizer(self, sampling: Any, prompt: Sequence[int]) -> Any:
        """A fresh one of vLLM's own, as a request with these parameters has it."""
        request = Namespace(request_id="", sampling_params=sampling, prompt_token_ids=list(prompt))
        return _find("IncrementalDetokenizer").from_new_request(self._engine.get_tokenizer(), request)

    def sampler(
        self, prompt: Mapping[str, Any], sampling: Any, request_id: str, index: int, options: Mapping[str, Any]
    ) -> "_PieceSampler":
        """Samples the pieces of choice ``index`` of a request."""
        return _PieceSampler(self._engine, prompt, sampling, f"{request_id}-{index}", index, options)


class _PieceSampler:
    """Turns each piece into an engine request of its own."""

    def __init__(
        self, engine: Any, prompt: Mapping[str, Any], sampling: Any, name: str, index: int, options: Mapping[str, Any]
    ) -> None:
        self._engine = engine
        self._prompt = {key: value for key, value in prompt.items() if key not in PROMPT_TEXTS}
        self._sampling = sampling
        self._seed = None if sampling.seed is None else sampling.seed + index  # as vLLM seeds the choices
        self._name = name
        self._options = dict(options)
        self._requests = 0

    def sample(self, piece: Piece) -> AsyncGenerator[Any, None]:
        """Sample a piece; yields vLLM's outputs."""
        self._requests += 1
        options = self._options
        if piece.kind == "answer" and self._sampling.structured_outputs is not None:
            options = options | {"reasoning_ended": True}
        prompt = self._prompt | {"prompt_token_ids": list(piece.prompt)}
        outputs: AsyncGenerator[Any, None] = self._engine.generate(
            prompt, self._parameters(piece), f"{self._name}-{self._requests}", **options
        )
        return outputs

    def _parameters(self, piece: Piece) -> Any:
        common = {
            "n": 1,
            "stop": list(piece.stop),
            "max_tokens": piece.max_tokens,
            "skip_special_tokens": False,
            "output_kind": _find("RequestOutputKind").DELTA,
        }
        if piece.kind == "trial":
            return type(self._sampling)(temperature=0.0, logprobs=1, **common)
        scored = self._sampling.logprobs if piece.score_prompt else None
        own = {
            "seed": None if self._seed is None else _int64(self._seed + piece.number * SEED_STRIDE),
            "include_stop_str_in_output": False,
            "prompt_logprobs": scored if piece.number else self._sampling.prompt_logprobs,
            "skip_reading_prefix_cache": None,  # vLLM decides it anew: no score of a token comes from the cache
            "thinking_token_budget": self._sampling.thinking_token_budget if piece.kind == "thought" else None,
        }
        return import_module("msgspec").structs.replace(self._sampling, **common, **own)


def _int64(number: int) -> int:
    """Wrapped around as 64 bits with a sign hold it, which is all that the engine takes for a seed."""
    return (number + 2**63) % 2**64 - 2**63


def _find(name: str) -> Any:
    for module in NEEDED[name]:
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if not module.startswith(error.name or module):
                raise ServerError(f"vLLM cannot be used: {error}") from error
        except AttributeError:
            continue
    raise ServerError(f"vLLM has no {name} in {' or '.join(NEEDED[name])}; supported are {SUPPORTED}")


def _is_news(record: logging.LogRecord) -> bool:
    """Leaves out the warning that our own plug-in is not loaded: here it has nothing to add."""
    return record.args != (["stepgrpo"],)


def _abandon_start(signum: int, _: object) -> None:
    """End a start at once; an exception would get lost in vLLM's waiting for its engine."""
    for child in multiprocessing.active_children():
        child.terminate()
        child.join(ABANDON_SECONDS)
        child.kill()
    os._exit(128 + signum)
