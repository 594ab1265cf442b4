"""What a rollout engine is asked and what it gives back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from training.errors import TrainingError

Finish = Literal["stop", "length", "eos"]


class EngineError(TrainingError):
    """The engine died or gave no answer; nothing of the rollout under way can be used."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``temperature`` 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0


GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Request:
    """One continuation to sample: of ``tokens``, until a ``stop`` string, ``max_tokens`` or the end of sequence."""

    tokens: Sequence[int]
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    with_logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back: ``tokens`` include those of the stop string, ``text`` ends before it.

    ``logprobs[i]`` is the log-probability of the most likely token at position i (empty unless asked for).
    """

    tokens: tuple[int, ...]
    text: str
    finish: Finish
    stop: str | None
    logprobs: tuple[float, ...]


class Sampler(Protocol):
    """A rollout engine: a request queue over weights that training replaces."""

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        ...

    def submit(self, request: Request) -> str:
        """Queue a request and return its id."""
        ...

    def step(self) -> Iterable[tuple[str, Completion]]:
        """Work on the queue and return the requests that finished."""
        ...

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token after the first, per sequence, under the engine's current weights."""
        ...

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Replace the weights and forget what was computed with the old ones; an error if they did not arrive."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...


def finished(engine: Sampler) -> Iterator[tuple[str, Completion]]:
    """Step the engine until its queue is empty and yield what finishes; the queue may grow meanwhile."""
    while engine.busy:
        yield from engine.step()


def generate(engine: Sampler, requests: Iterable[Request]) -> list[Completion]:
    """Sample all requests and return their completions in order."""
    order = [engine.submit(request) for request in requests]
    done = dict(finished(engine))
    return [done[request_id] for request_id in order]
