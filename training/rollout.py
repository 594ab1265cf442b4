"""Dynamic Truncated Rollout: every sample follows its own exit policy over the engine's queue.

There is no barrier between samples: the next request of a sample is queued the moment its last one ends, so a trial
answer of 20 tokens never waits for somebody else's long thought.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from reasoning import Action, Answer, ExitPolicy, ExitPolicyConfig, Finish, Probe, Probed, Sampled, Think
from training.paths import cut_at, joined, plain_text
from training.sampler import GREEDY, Completion, Request, Sampler, Sampling, finished


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion.

    Attributes:
        completion_ids: tokens after the prompt, forced ones included, end of sequence included when it was reached.
        sampled: 1 where the policy sampled the token, 0 where it was forced; same length as ``completion_ids``.
        text: the decoded completion, without the end-of-sequence token.
        exit: how thinking ended ("none" for a plain rollout).
        confidences: of the trial answers, in order.
        probe_tokens: tokens decoded for trial answers; they are in none of the above.
        probe_seconds: engine time of the trial answers: their share of the requests that ran, step by step.
        reused: leading tokens that another rollout of the group sampled; they cost nothing here.
    """

    completion_ids: list[int]
    sampled: list[int]
    text: str
    exit: str
    confidences: tuple[float, ...] = ()
    probe_tokens: int = 0
    probe_seconds: float = 0.0
    reused: int = 0

    @property
    def cost(self) -> int:
        """Tokens that the engine decoded for this rollout: sampled ones and those of trial answers."""
        return sum(self.sampled) - self.reused + self.probe_tokens


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """What a rollout works with.

    Attributes:
        engine: holds the current policy's weights.
        tokenizer: the checkpoint's.
        config: of the exit policy; its ``total_tokens`` bounds a completion.
        sampling: how thoughts and answers are drawn; trial answers are always greedy.
        group_size: completions of one prompt; they stand side by side.
        rng: for what a rollout policy draws itself.
        on_rollout: called when a completion has come to its end.
    """

    engine: Sampler
    tokenizer: PreTrainedTokenizerBase
    config: ExitPolicyConfig
    sampling: Sampling = field(default_factory=Sampling)
    group_size: int = 1
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    on_rollout: Callable[[], None] = lambda: None


RolloutPolicy = Callable[[RolloutContext, Sequence[list[int]]], list[Rollout]]
"""Samples one completion per prompt (token ids; a group is the same prompt several times)."""


def plain_rollouts(context: RolloutContext, prompts: Sequence[list[int]]) -> list[Rollout]:
    """Ordinary sampling: one request per prompt, nothing forced."""
    requests = (Request(prompt, context.config.total_tokens, context.sampling) for prompt in prompts)
    order = [context.engine.submit(request) for request in requests]
    done = {}
    for request_id, completion in finished(context.engine):
        done[request_id] = plain(context.tokenizer, completion)
        context.on_rollout()
    return [done[request_id] for request_id in order]


def plain(tokenizer: PreTrainedTokenizerBase, completion: Completion) -> Rollout:
    """A completion that was sampled in one go."""
    ids = list(completion.tokens)
    return Rollout(ids, [1] * len(ids), plain_text(tokenizer, ids), "none")


def truncated_rollouts(context: RolloutContext, prompts: Sequence[list[int]]) -> list[Rollout]:
    """Sample one completion per prompt, each under its own :class:`~reasoning.policy.ExitPolicy`."""
    samples = [_Sample(context.tokenizer, prompt, ExitPolicy(context.config)) for prompt in prompts]
    running: dict[str, _Sample] = {}

    def advance(sample: _Sample, action: Action) -> None:
        request = sample.apply(action, context.sampling)
        if request is None:
            context.on_rollout()
        else:
            running[context.engine.submit(request)] = sample

    for sample in samples:
        advance(sample, sample.policy.start())
    while context.engine.busy:
        probing = [sample for sample in running.values() if sample.probing]
        share, started = 1 / len(running), time.perf_counter()
        done = list(context.engine.step())
        elapsed = time.perf_counter() - started
        for sample in probing:
            sample.probe_seconds += share * elapsed
        for request_id, completion in done:
            sample = running.pop(request_id)
            advance(sample, sample.policy.advance(sample.receive(completion)))
    return [sample.finished() for sample in samples]


@dataclass(frozen=True, slots=True)
class _Cut:
    """What a stop string cut off the path: tokens as sampled, and how much text of the first of them the path keeps."""

    position: int
    tokens: list[int]
    partial: str


@dataclass(slots=True)
class _Sample:
    """One completion under way: its tokens so far and what they came from."""

    tokenizer: PreTrainedTokenizerBase
    prompt: list[int]
    policy: ExitPolicy
    tokens: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    cut: _Cut | None = None
    begun_at: int = 0
    probing: bool = False
    probe_tokens: int = 0
    probe_seconds: float = 0.0

    def apply(self, action: Action, sampling: Sampling) -> Request | None:
        """Carry out an action: change the path where it says so and return the request that it asks for."""
        self.probing = isinstance(action, Probe)
        match action:
            case Probe(text, stop, max_tokens):
                path, _ = joined(self.tokenizer, self.tokens, text)
                return Request(self.prompt + path, max_tokens, GREEDY, stop, with_logprobs=True)
            case Think(append, stop, max_tokens):
                return self._continued(append, max_tokens, sampling, stop)
            case Answer(append, max_tokens):
                return self._continued(append, max_tokens, sampling, ())
            case Finish():
                return None

    def receive(self, completion: Completion) -> Sampled | Probed:
        """Take in what the engine sampled; the path is cut exactly where the stop string begins."""
        if self.probing:
            self.probe_tokens += len(completion.tokens)
            return Probed(completion.logprobs, closed=completion.stop is not None)
        whole, partial, after = len(completion.tokens), "", ""
        if completion.stop is not None:
            whole, partial = cut_at(self.tokenizer, completion.tokens, completion.text)
            self.cut = _Cut(len(self.tokens) + whole, list(completion.tokens[whole:]), partial)
            after = self.tokenizer.decode(self.cut.tokens).removeprefix(partial + completion.stop)
        kept = list(completion.tokens[:whole])
        if partial:
            kept += self.tokenizer.encode(partial, add_special_tokens=False)
        self.tokens += kept
        self.sampled += [1] * len(kept)
        added = len(self.tokens) - self.begun_at
        return Sampled(completion.text, added, completion.finish, completion.stop, after)

    def finished(self) -> Rollout:
        """The completion, once the policy has ended it."""
        return Rollout(
            self.tokens,
            self.sampled,
            plain_text(self.tokenizer, self.tokens),
            self.policy.exit_reason,
            tuple(self.policy.probes),
            self.probe_tokens,
            self.probe_seconds,
        )

    def _continued(self, append: str, max_tokens: int, sampling: Sampling, stop: tuple[str, ...]) -> Request:
        self.begun_at = len(self.tokens)
        self._append(append)
        room = max(1, max_tokens - (len(self.tokens) - self.begun_at))
        return Request(self.prompt + self.tokens, room, sampling, stop)

    def _append(self, text: str) -> None:
        """Add text that the policy decided on. A stop string that is put back keeps the tokens it was sampled with."""
        if self.cut is not None and (self.cut.partial + text).startswith(
            tail := self.tokenizer.decode(self.cut.tokens)
        ):
            self.tokens[self.cut.position :] = self.cut.tokens
            self.sampled[self.cut.position :] = [1] * len(self.cut.tokens)
            text = (self.cut.partial + text).removeprefix(tail)
        self.cut = None
        if text:
            self.tokens, kept = joined(self.tokenizer, self.tokens, text)
            self.sampled = self.sampled[:kept] + [0] * (len(self.tokens) - kept)
