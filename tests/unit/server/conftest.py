"""A fake engine: tokens are words, requests are scripts of what the engine answers."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from reasoning import StepGrpoCard
from server.engine import MeteredEngine
from server.metering import Meter
from server.metrics import EfficiencyMetrics
from server.models import ServedModel
from server.savings import Baseline, baseline_of

MARKERS = ("Wait", "Alternatively")
THINK = ("<think>", "</think>")
END = "<|im_end|>"
ADDED = ("<|im_start|>", END, *THINK)
WHOLE = "|".join(map(re.escape, ADDED))
PIECE = re.compile(rf"{WHOLE}| ?\w+|\n+|(?: (?!{WHOLE}))?[^\w\s]| ")


class Words:
    """A tokenizer whose tokens are the added tokens, words with a leading blank, and signs."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self.landmarks = frozenset({self._id("<|im_start|>"), self._id(END)})

    def token(self, text: str) -> int | None:
        return self._id(text) if text in ADDED else None

    def encode(self, text: str) -> list[int]:
        pieces = PIECE.findall(text)
        assert "".join(pieces) == text
        return [self._id(piece) for piece in pieces]

    def decode(self, tokens: Sequence[int]) -> str:
        pieces = list(self._ids)
        return "".join(pieces[token] for token in tokens)

    def stream(self, skip_special: bool) -> Callable[[Sequence[int]], list[str]] | None:
        return lambda tokens: [self.decode([token]) for token in tokens]

    def decoder(self, after: Sequence[int]) -> Callable[[int], str]:
        return lambda token: self.decode([token])

    def _id(self, piece: str) -> int:
        return self._ids.setdefault(piece, len(self._ids))


class Script:
    """An engine that answers every request with the outputs it was given; an exception among them is raised."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []
        self.closed = 0
        self.errored = False
        self.shut_down: float | None = None
        self.unfinished = 0

    async def generate(self, prompt: Any, sampling: Any, request_id: str, **_: Any) -> AsyncGenerator[Any, None]:
        try:
            for output in self.outputs:
                if isinstance(output, BaseException):
                    raise output
                yield output
        finally:
            self.closed += 1

    async def add_lora(self, adapter: Any) -> bool:
        if self.errored:
            raise ValueError("no such adapter")
        return True

    def get_num_unfinished_requests(self) -> int:
        return self.unfinished

    def shutdown(self, timeout: float) -> None:
        self.shut_down = timeout


class EngineError(Exception):
    """The engine fails."""


class Bench:
    """Everything around one metered fake engine, and short ways to run requests through it."""

    def __init__(self, model: ServedModel) -> None:
        self.registry = CollectorRegistry()
        self.failure = EngineError("dead")
        self.words = Words()
        self.script = Script()
        self.meter = Meter(model, self.words, EfficiencyMetrics(self.registry), (EngineError,))
        self.engine = MeteredEngine(self.script, self.meter)

    def sampling(self, **values: Any) -> SimpleNamespace:
        defaults = {"n": 1, "stop": [], "stop_token_ids": [], "include_stop_str_in_output": False, "detokenize": True}
        defaults |= {"skip_special_tokens": True, "thinking_token_budget": None}
        defaults |= {"max_tokens": 100, "logprob_token_ids": None}
        return SimpleNamespace(**(defaults | values))

    def output(
        self,
        *parts: tuple[int, str, str | None] | tuple[int, str, str | None, str | int | None],
        prompt: str = "<|im_start|>assistant\n",
    ) -> SimpleNamespace:
        """An engine output of ``(index, text of the new tokens, finish reason[, stop reason])``."""
        outputs = [
            SimpleNamespace(
                index=part[0],
                text=part[1],
                token_ids=self.words.encode(part[1]),
                finish_reason=part[2],
                stop_reason=part[3] if len(part) > 3 else None,
            )
            for part in parts
        ]
        return SimpleNamespace(prompt_token_ids=self.words.encode(prompt), outputs=outputs)

    async def run(self, *outputs: Any, sampling: Any = None, **options: Any) -> list[Any]:
        self.script.outputs = list(outputs)
        sampling = sampling or self.sampling()
        return [output async for output in self.engine.generate("prompt", sampling, "id", **options)]

    def value(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, {"model_name": "tuned"} | labels)
        assert value is not None, f"{name}{labels} does not exist"
        return value

    def exits(self) -> dict[str, int]:
        """Choices by exit reason, those that occurred."""
        exits = self.meter.summary.models()[0].exits
        assert all(self.value("stepgrpo_exits_total", reason=reason) == count for reason, count in exits.items())
        return {reason: count for reason, count in exits.items() if count}


def card_with(**values: Any) -> StepGrpoCard:
    part = {"completion_tokens": {"mean": 200, "p50": 190, "p90": 300}, "reasoning_steps": {"mean": 4}, "accuracy": 0.9}
    calibration = {
        "dataset": "quickstart",
        "n": 1000,
        "sampling": {"temperature": 1.0, "top_p": 1.0},
        "base": part,
        "tuned": part,
        "savings_ratio": {"mean": 0.32, "ci95": [0.3, 0.34]},
    }
    card = {
        "algorithm": "step-grpo",
        "base_model": "base",
        "markers": list(MARKERS),
        "answer_prompt": "\n**Final Answer**\n\\boxed",
        "recipe": {"name": "quickstart", "digest": "sha256:" + "0" * 64},
        "calibration": calibration,
    }
    return StepGrpoCard.model_validate(card | values)


@pytest.fixture
def card() -> Callable[..., StepGrpoCard]:
    return card_with


@pytest.fixture
def bench() -> Bench:
    card = card_with()
    return Bench(ServedModel("tuned", MARKERS, THINK, baseline_of(card), card))


@pytest.fixture
def plain_bench() -> Bench:
    """A model without a card."""
    return Bench(ServedModel("tuned", MARKERS, THINK, Baseline(), None))


@pytest.fixture
def idle_engine() -> SimpleNamespace:
    """As middlewares see it: without work."""
    return SimpleNamespace(draining=False, errored=False, get_num_unfinished_requests=lambda: 0)
