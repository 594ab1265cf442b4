"""One real server for all tests, on the bundled checkpoint, or on a tiny random one where that is not there yet."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reasoning import StepGrpoCard, load_card
from server.settings import BUNDLED

if TYPE_CHECKING:  # it takes a second, and this plug-in is loaded by every run
    from openai import AsyncOpenAI, OpenAI

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300
MARKERS = ("Wait", "Alternatively")


@dataclass
class Server:
    """A running ``stepgrpo serve``."""

    process: "subprocess.Popen[bytes]"
    url: str
    checkpoint: Path
    log: Path

    @property
    def model(self) -> str:
        return self.checkpoint.name

    @property
    def card(self) -> StepGrpoCard:
        card = load_card(self.checkpoint)
        assert card is not None
        return card

    @property
    def openai(self) -> "OpenAI":
        from openai import OpenAI

        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    @property
    def async_openai(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI

        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def endless(self, *also: str) -> dict[str, object]:
        """Request fields that keep the model within an open thinking block until another limit ends it."""
        banned = [self.token(text) for text in (self.card.think.end, *also)]
        return {"logit_bias": dict.fromkeys(banned, -100), "extra_body": {"ignore_eos": True}}

    def token(self, text: str) -> int:
        """The id of the token whose text this is."""
        answer = httpx.post(f"{self.url}/tokenize", json={"model": self.model, "prompt": text})
        (token,) = answer.json()["tokens"]
        return int(token)

    def metrics(self, model: str | None = None) -> dict[str, float]:
        """Every sample of ``/metrics``, by its name and its labels (``model_name`` and ``engine`` left out).

        With ``model``, only those of this ``model_name``.
        """
        samples = {}
        for family in text_string_to_metric_families(httpx.get(f"{self.url}/metrics", timeout=60).text):
            for sample in family.samples:
                if model in (None, sample.labels.get("model_name")):
                    labels = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
                    samples[sample.name + "".join(f"|{key}={labels[key]}" for key in sorted(labels))] = sample.value
        return samples


def start_server(checkpoint: Path, log: Path, *options: str, port: int = 0, **environment: str) -> Server:
    """Start the command that users start, on a free port unless one is given, and wait until it is ready."""
    return _started(["stepgrpo", "serve", str(checkpoint), *options], checkpoint, log, environment, port)


def start_stock_server(checkpoint: Path, log: Path, *options: str, **environment: str) -> Server:
    """Start vLLM's own server, and wait until it is ready."""
    module = "vllm.entrypoints.launchers.api_server.entry"
    command = [module, "--model", str(checkpoint), "--served-model-name", checkpoint.name, *options]
    return _started(command, checkpoint, log, environment)


def _started(module: list[str], checkpoint: Path, log: Path, environment: dict[str, str], port: int = 0) -> Server:
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        port = free.getsockname()[1]
    return started([sys.executable, "-m", *module, "--port", str(port)], port, checkpoint, log, **environment)


def started(command: list[str], port: int, checkpoint: Path, log: Path, **environment: str) -> Server:
    """Run a command that serves the checkpoint on that port, and wait until it is ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={"OMP_NUM_THREADS": "1"} | os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # not a session of its own, whose busy engine could starve the tests of the processor
        )
    scheme = "https" if "--ssl-certfile" in command else "http"
    server = Server(process, f"{scheme}://127.0.0.1:{port}", checkpoint, log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/ready", verify=scheme == "http").status_code == 200:
                return server
        time.sleep(0.5)
    stop_server(server)
    pytest.fail(f"the server did not start:\n{log.read_text()[-4000:]}")


def stop_server(server: Server) -> None:
    """End the server and its engine, by force if need be."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGTERM)
    try:
        server.process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STEPGRPO_CHECKPOINT, else the bundled checkpoint, else a random one."""
    chosen = os.environ.get("STEPGRPO_CHECKPOINT")
    if chosen or BUNDLED.exists():
        return Path(chosen) if chosen else BUNDLED
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all tests share; the last of them stops it."""
    log = tmp_path_factory.mktemp("server") / "log"
    origins = ("--allowed-origins", '["*"]')  # for pages of other servers
    compact = '{"backend": "xgrammar", "disable_any_whitespace": true}'  # a tiny model would fill up with blanks
    long = '{"max_position_embeddings": 16384}'  # an endless answer outlives a browser that a busy machine slows down
    tools = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    options = (*origins, "--structured-outputs-config", compact, "--hf-overrides", long, *tools)
    server = start_server(checkpoint, log, *options)
    yield server
    stop_server(server)


@pytest.fixture
def counted(server: Server) -> Callable[[], dict[str, float]]:
    """What the metrics gained since the test began: call it for the difference."""
    before = server.metrics()

    def difference() -> dict[str, float]:
        after = server.metrics()
        return {key: value - before.get(key, 0.0) for key, value in after.items()}

    return difference


TEMPLATE = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)


def tiny_checkpoint(folder: Path) -> Path:
    """A random Qwen3 with a byte-level tokenizer, a ChatML template and a calibrated card."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    letters = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    backend.add_tokens([AddedToken(text, normalized=False) for text in ("<think>", "</think>", *MARKERS)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "step_grpo.json").write_text(json.dumps(TINY_CARD))
    return folder


_MEASURED = {
    "accuracy": 0.9,
    "completion_tokens": {"mean": 200, "p50": 190, "p90": 300},
    "reasoning_steps": {"mean": 4},
}
TINY_CARD = {
    "algorithm": "step-grpo",
    "base_model": "base",
    "markers": list(MARKERS),
    "answer_prompt": "\n**Final Answer**\n\\boxed",
    "recipe": {"name": "tiny", "digest": "sha256:" + "0" * 64},
    "calibration": {
        "dataset": "none",
        "n": 1,
        "sampling": {"temperature": 1.0, "top_p": 1.0},
        "base": _MEASURED,
        "tuned": _MEASURED,
        "savings_ratio": {"mean": 0.32, "ci95": [0.3, 0.34]},
    },
}
