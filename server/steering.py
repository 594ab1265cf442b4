"""The server's driver of the exit policy: one choice, sampled piece by piece from the engine.

The policy is the one that training rollouts run under (``reasoning.policy``). Pieces of a choice share its KV cache
through the engine's prefix cache. What comes out are tokens that are certain: none of a trial answer, and none of a
marker that may still be dropped.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from reasoning import Action, Answer, ExitPolicy, ExitReason, Finish, Probe, Probed, Sampled, Think
from server.path import Path, Token


@dataclass(frozen=True, slots=True)
class Piece:
    """What to sample next.

    Attributes:
        prompt: token ids to continue.
        kind: a thought and an answer are drawn as the request says, a trial answer greedily with log-probabilities.
        stop: strings that end the piece; they are cut out of its text.
        max_tokens: to sample.
        number: of the thoughts and answers of a choice, from 0; a seeded request draws each from a seed of its own.
        score_prompt: report the log-probabilities of the prompt, too.
    """

    prompt: Sequence[int]
    kind: Literal["thought", "trial", "answer"]
    stop: tuple[str, ...]
    max_tokens: int
    number: int = 0
    score_prompt: bool = False


class Sampler(Protocol):
    """Samples the pieces of one choice."""

    def sample(self, piece: Piece) -> AsyncGenerator[Any, None]:
        """Sample a piece; yields outputs as vLLM's engine does, each with the one choice's new tokens and text."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Tokens that have become certain.

    Attributes:
        tokens: in order.
        output: the engine output that they came with.
        finish_reason: why the choice ended, on its last progress.
        stop_reason: the stop token of the request that ended it, if one did.
    """

    tokens: list[Token]
    output: Any
    finish_reason: str | None = None
    stop_reason: int | None = None


class SteeredChoice:
    """One choice under an exit policy.

    Args:
        policy: fresh; told how many tokens the choice may have.
        path: empty, after the request's prompt.
        sampler: of the pieces.

    Attributes:
        first: the first engine output of the choice; None before it.
    """

    def __init__(self, policy: ExitPolicy, path: Path, sampler: Sampler) -> None:
        self._policy = policy
        self._path = path
        self._sampler = sampler
        self._longest = len(path.ids) + policy.config.total_tokens
        self._pieces = 0
        self._result: Sampled = Sampled("", 0, "stop")
        self._last: Any = None
        self.first: Any = None
        self._ended_by: Any = None

    @property
    def forced_exit(self) -> ExitReason | None:
        """Why the policy closed the thinking block; None where it did not."""
        reason = self._policy.exit_reason
        return reason if reason in ("confidence", "step_budget", "token_budget", "repetition") else None

    async def run(self) -> AsyncGenerator[Progress, None]:
        """Drive the policy to its end. Only the last progress has a finish reason."""
        action: Action = self._policy.start()
        while not isinstance(action, Finish):
            if isinstance(action, Probe):
                action = self._policy.advance(await self._try(action))
                continue
            async with aclosing(self._sample(action)) as certain:
                async for progress in certain:
                    yield progress
            if self._ended_by is not None and self._ended_by.finish_reason not in ("stop", "length"):
                break
            action = self._policy.advance(self._result)
        yield self._end()

    def _end(self) -> Progress:
        tokens, by = self._path.release(), self._ended_by
        if by is None:
            return Progress(tokens, self._last, "length")
        return Progress(tokens, self._last, by.finish_reason, by.stop_reason)

    async def _sample(self, action: Think | Answer) -> AsyncGenerator[Progress, None]:
        """Append what the action says and sample on; yields what becomes certain and leaves the result."""
        path, stop = self._path, action.stop if isinstance(action, Think) else ()
        begun = len(path)
        path.begin(action.append)
        if self._last is not None and (tokens := path.release()):
            yield Progress(tokens, self._last)
        piece = Piece(
            path.ids,
            "thought" if isinstance(action, Think) else "answer",
            stop,
            max(1, action.max_tokens - (len(path) - begun)),
            self._pieces,
            path.unscored,
        )
        self._pieces += 1
        text = ""
        async with aclosing(self._sampler.sample(piece)) as outputs:
            async for output in outputs:
                self._last, part = output, output.outputs[0]
                self.first = self.first or output
                if piece.score_prompt and output.prompt_logprobs:
                    path.score(output.prompt_logprobs)
                path.sampled(part.token_ids, part.logprobs)
                text += part.text
                if part.finish_reason is not None:
                    break
                if tokens := path.release(len(text) if stop else None):
                    yield Progress(tokens, output)
        self._result = self._received(part, text, stop, begun)

    def _received(self, part: Any, text: str, stops: Sequence[str], begun: int) -> Sampled:
        """The piece as the policy sees it; the path is cut exactly where a stop string begins."""
        stop, after = part.stop_reason, ""
        if part.finish_reason == "stop" and isinstance(stop, str) and stop in stops:
            after = self._path.cut(text, stop)
            self._ended_by = None
            return Sampled(text, len(self._path) - begun, "stop", stop, after)
        self._ended_by = part
        finish: Literal["stop", "length", "eos"] = "length" if part.finish_reason == "length" else "stop"
        if finish == "stop" and stop is None:
            finish = "eos"
        return Sampled(text, len(self._path) - begun, finish)

    async def _try(self, probe: Probe) -> Probed:
        prompt = self._path.probe(probe.text)
        if len(prompt) >= self._longest:
            return Probed((), closed=False)
        piece = Piece(prompt, "trial", probe.stop, probe.max_tokens)
        logprobs: list[float] = []
        closed = False
        async with aclosing(self._sampler.sample(piece)) as outputs:
            async for output in outputs:
                part = output.outputs[0]
                logprobs += (max(each.logprob for each in entry.values()) for entry in part.logprobs or ())
                closed = isinstance(part.stop_reason, str)
        return Probed(tuple(logprobs), closed)
