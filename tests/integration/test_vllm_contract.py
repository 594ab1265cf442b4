"""What the server is built on in vLLM: a failure here names what an upgrade has moved or taken away."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from server import vllm_compat
from server.app import vllm_defaults
from server.checkpoint import ServedCheckpoint
from server.settings import ServerSettings
from server.shortcut import can_be_passed
from server.steering import Piece

pytestmark = pytest.mark.integration

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""What parsing sets, so that it is gone again after the test."""


def find(module, name):
    return getattr(import_module(module), name)


@pytest.mark.parametrize("name", vllm_compat.NEEDED)
def test_a_name_that_is_needed_is_where_one_of_the_supported_versions_has_it(name):
    assert callable(vllm_compat._find(name))


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(vllm_compat.NEEDED, "build_house", ("vllm.nowhere", "vllm.entrypoints.launchers.app"))
    with pytest.raises(vllm_compat.ServerError) as missing:
        vllm_compat.check_vllm()
    assert str(missing.value) == (
        "vLLM has no build_house in vllm.nowhere or vllm.entrypoints.launchers.app; supported are 0.32 and 0.33"
    )


def test_a_dependency_that_vllm_misses_is_not_taken_for_an_old_version(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(vllm_compat.NEEDED, "build_app", ("needs_more",))
    with pytest.raises(vllm_compat.ServerError, match="cannot be used: No module named 'not_installed'"):
        vllm_compat.check_vllm()


@pytest.mark.parametrize(
    ("where", "class_name", "method"),
    [
        ("vllm.entrypoints.openai.chat_completion.serving", "OpenAIServingChat", "create_chat_completion"),
        ("vllm.entrypoints.openai.completion.serving", "OpenAIServingCompletion", "create_completion"),
    ],
)
def test_the_handlers_that_are_wrapped_take_the_request_first(where, class_name, method):
    handler = getattr(find(where, class_name), method)
    assert list(inspect.signature(handler).parameters)[:2] == ["self", "request"]
    assert method in vllm_compat.HANDLERS.values()


def test_the_engine_call_that_is_metered():
    parameters = inspect.signature(find("vllm.v1.engine.async_llm", "AsyncLLM").generate).parameters
    assert list(parameters)[1:4] == ["prompt", "sampling_params", "request_id"]
    assert parameters["lora_request"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.fixture
def parameters():
    """The sampling parameters of a piece of a request with these."""
    made = find("vllm.sampling_params", "SamplingParams")

    def of(piece, **asked):
        return vllm_compat._PieceSampler(None, {}, made(**asked), "id", 0, {})._parameters(piece)

    return of


@pytest.mark.parametrize("score", [True, False])
def test_a_piece_whose_prompt_is_scored_reads_no_prefix_cache_which_holds_no_scores(parameters, score):
    piece = Piece([1], "thought", ("Wait",), 5, number=1, score_prompt=score)
    assert parameters(piece, logprobs=2).skip_reading_prefix_cache is score


@pytest.mark.parametrize("seed", [0, -(2**63), 2**63 - 1])
def test_pieces_draw_from_seeds_of_their_own_that_the_engine_can_hold(parameters, seed):
    seeds = [parameters(Piece([1], "thought", (), 5, number=number), seed=seed).seed for number in range(3)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 3
    assert all(-(2**63) <= each < 2**63 for each in seeds)


def test_the_fields_that_are_metered():
    completion = find("vllm.outputs", "CompletionOutput").__dataclass_fields__
    assert {"index", "text", "token_ids", "finish_reason", "stop_reason"} <= set(completion)
    request = inspect.signature(find("vllm.outputs", "RequestOutput")).parameters
    assert {"prompt_token_ids", "outputs"} <= set(request)
    sampling = find("vllm.sampling_params", "SamplingParams")(stop="x", stop_token_ids=[1], n=2)
    assert (sampling.stop, sampling.stop_token_ids, sampling.n) == (["x"], [1], 2)
    assert (sampling.detokenize, sampling.include_stop_str_in_output) == (True, False)


def test_requests_may_carry_the_switch_and_choices_the_report():
    request = find("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionRequest")
    parsed = request.model_validate({"messages": [{"role": "user", "content": "hi"}], "reasoning_efficiency": False})
    assert parsed.reasoning_efficiency is False
    choice = find("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionResponseChoice")
    assert choice.model_config["extra"] == "allow"


@pytest.fixture
def parse(monkeypatch):
    """Parse options over our defaults, and leave no trace of it in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    defaults = vllm_defaults(ServerSettings(), ServedCheckpoint(Path("folder"), None, "</think>", "float32"))
    return lambda *options: vllm_compat.parse_arguments(options, defaults)


def test_our_defaults_are_options_of_vllm(parse):
    arguments = parse("--max-model-len", "64", "--port", "9", "--served-model-name", "a", "b")
    assert (arguments.port, arguments.shutdown_timeout, arguments.max_model_len) == (9, 30, 64)
    assert arguments.served_model_name == ["a", "b"]
    assert (arguments.reasoning_parser, arguments.dtype) == ("qwen3", "float32")


def test_the_defaults_are_private_and_safe(parse):
    arguments = parse()
    assert arguments.host == "127.0.0.1"
    assert not arguments.enable_log_requests
    assert not arguments.trust_remote_code
    assert not arguments.allowed_origins


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-model-len", "64", "other"], "give the checkpoint first, before vLLM's options: other"),
        (["--model", "other"], "give the checkpoint first, before vLLM's options: other"),
        (["--api-server-count", "2"], "more than one API server"),
        (["--headless"], "--headless"),
        (["--enable-auto-tool-choice"], "--tool-call-parser"),
    ],
)
def test_options_that_do_not_fit(parse, options, says):
    with pytest.raises(vllm_compat.ServerError, match=re.escape(says)):
        parse(*options)


def test_an_unknown_option_ends_the_process(parse, capsys):
    with pytest.raises(SystemExit):
        parse("--no-such-option")
    assert "stepgrpo serve: error: unrecognized arguments: --no-such-option" in capsys.readouterr().err


def test_vllms_own_middlewares_are_known_to_look_at_heads_alone(parse):
    app = find("vllm.entrypoints.launchers.app", "build_app")(parse("--enable-request-id-headers"), ("generate",))
    app.middleware_stack = app.build_middleware_stack()
    assert can_be_passed(app)
