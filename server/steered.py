"""The engine with exit control: requests that ask for none pass, the others are steered choice by choice."""

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from reasoning import ExitPolicy, ExitPolicyConfig
from server.exit_control import NO_CONTROL, ExitControl, ExitLimits, asked_exit_control
from server.models import Adapter, ServedModel
from server.opening import PromptText, opening_of
from server.path import Path, Token, Tokenizer
from server.steering import Progress, Sampler, SteeredChoice

UNSTEERABLE = {
    "min_tokens": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "detokenize": True,
    "logprob_token_ids": None,
}
"""Sampling parameters that a request of several pieces cannot have, with the values at which they do nothing."""


class Detokenizer(Protocol):
    """vLLM's incremental detokenizer: the text that the client sees, and its stop strings."""

    @property
    def output_token_ids(self) -> Sequence[int]:
        """All tokens taken in, but those behind a stop string."""

    def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
        """Take in tokens, the last of them without text if it only ends the sequence; returns a stop string's match."""

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        """The text, or what is new of it, less what a stop string could still cut off."""


class Pieces(Protocol):
    """Samples parts of requests on the engine."""

    @property
    def text(self) -> "SteeringText":
        """The served model's tokenizer."""

    def detokenizer(self, sampling: Any, prompt: Sequence[int]) -> Detokenizer:
        """A fresh detokenizer of one choice, as a whole request has it."""

    def sampler(
        self, prompt: Mapping[str, Any], sampling: Any, request_id: str, index: int, options: Mapping[str, Any]
    ) -> Sampler:
        """Samples the pieces of choice ``index`` of a request."""


class SteeringText(PromptText, Tokenizer, Protocol):
    """The served model's tokenizer."""


class SteeredEngine:
    """Delegates everything to an engine client and steers those requests that exit control applies to.

    Args:
        engine: vLLM's.
        pieces: samples parts of a request on it.
        model: which served model an adapter is; None is the checkpoint itself.
        limits: the server's.
        refusal: makes the exception that refuses a request, of a message and the name of a parameter.
    """

    def __init__(
        self,
        engine: Any,
        pieces: Pieces,
        model: Callable[[Adapter | None], ServedModel],
        limits: ExitLimits,
        refusal: Callable[[str, str], Exception],
    ) -> None:
        self._engine = engine
        self._pieces = pieces
        self._model = model
        self._limits = limits
        self._refusal = refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, prompt: Any, sampling_params: Any, request_id: str, **options: Any) -> AsyncGenerator[Any, None]:
        """Sample a request; a token budget in effect is written into its sampling parameters, where metering finds it.

        Raises:
            Exception: the refusal of a request that cannot be steered.
        """
        control = self._control(sampling_params, prompt)
        if control.thinking_token_budget != sampling_params.thinking_token_budget:
            sampling_params.thinking_token_budget = control.thinking_token_budget
        if not control.paused:
            return self._engine.generate(prompt, sampling_params, request_id, **options)  # type: ignore[no-any-return]
        model = self._model(options.get("lora_request"))
        opening = opening_of(prompt["prompt_token_ids"], self._pieces.text, model.think)
        policy = ExitPolicyConfig(
            markers=model.markers,
            total_tokens=sampling_params.max_tokens,
            think=model.think,
            answer_prompt=model.answer_prompt,
            threshold=None if control.early_exit is None else control.early_exit.threshold,
            mean="geometric" if control.early_exit is None else control.early_exit.mean,
            max_steps=control.max_reasoning_steps,
            inside=opening.inside,
        )
        choices = [
            self._choice(policy, prompt, sampling_params, request_id, index, options)
            for index in range(sampling_params.n)
        ]
        return _outputs(choices, prompt, sampling_params.output_kind.name, request_id)

    def check_request(self, request: Any) -> None:
        """Refuse a request that, by its own fields, would be refused when it is sampled.

        Raises:
            Exception: the refusal.
        """
        self._allowed(asked_exit_control.get(), request, {})

    def check_beam_search(self) -> None:
        """Refuse a beam search where the request or the server ends thinking early, for it would not.

        Raises:
            Exception: the refusal.
        """
        capped = self._limits.cap != NO_CONTROL
        if capped or asked_exit_control.get().paused:
            raise self._refused("use_beam_search", capped)

    def _control(self, sampling: Any, prompt: Any) -> ExitControl:
        asked = asked_exit_control.get()
        if asked.thinking_token_budget is None and sampling.thinking_token_budget is not None:
            asked = asked.model_copy(update={"thinking_token_budget": sampling.thinking_token_budget})
        if sampling.max_tokens == 1:  # no step ends within it
            return ExitControl(thinking_token_budget=self._limits.effective(asked).thinking_token_budget)
        return self._allowed(asked, sampling, prompt)

    def _allowed(self, asked: ExitControl, parameters: Any, prompt: Any) -> ExitControl:
        """What a request gets that has these parameters and this prompt, which is empty where it is not known yet."""
        control = self._limits.effective(asked)
        if not control.paused:
            return control
        obstacle = _obstacle(parameters, prompt)
        if obstacle is None:
            return control
        control = self._limits.binding(asked)
        if control.paused:
            raise self._refused(obstacle, self._limits.cap.paused)
        return control

    def _refused(self, name: str, by_server: bool) -> Exception:
        what = "a prompt that is not text alone" if name == "prompt" else name
        if by_server:
            message = f"{what} cannot be combined with this server's limits on thinking: leave it out"
        else:
            message = f"{what} cannot be combined with max_reasoning_steps or early_exit: leave one of them out"
        return self._refusal(message, name)

    def _choice(
        self,
        policy: ExitPolicyConfig,
        prompt: Mapping[str, Any],
        sampling: Any,
        request_id: str,
        index: int,
        options: Mapping[str, Any],
    ) -> "_Choice":
        ids = prompt["prompt_token_ids"]
        path = Path(ids, self._pieces.text, scored=sampling.logprobs is not None)
        sampler = self._pieces.sampler(prompt, sampling, request_id, index, options)
        steered = SteeredChoice(ExitPolicy(policy), path, sampler)
        return _Choice(index, steered, self._pieces.detokenizer(sampling, ids), sampling)


def _obstacle(parameters: Any, prompt: Any) -> str | None:
    """Which of a request's parameters keeps it from being sampled in pieces; its prompt does where it is no text."""
    for name, idle in UNSTEERABLE.items():
        if getattr(parameters, name, None) not in (None, idle):
            return name
    return None if isinstance(prompt, Mapping) and prompt.get("type", "token") == "token" else "prompt"


class _Choice:
    """One choice as the engine would have answered it in one piece."""

    def __init__(self, index: int, steered: SteeredChoice, detokenizer: Detokenizer, sampling: Any) -> None:
        self._index = index
        self._steered = steered
        self._detokenizer = detokenizer
        self._kind = sampling.output_kind.name
        self._scored = sampling.logprobs is not None
        self._tokens: list[Token] = []
        self._handed = 0

    async def outputs(self) -> AsyncGenerator[Any, None]:
        """The engine outputs of this choice, as its output kind has them; the last one finishes it."""
        async with aclosing(self._steered.run()) as run:
            async for progress in run:
                stop = self._take(progress)
                finished = "stop" if stop is not None else progress.finish_reason
                if finished is not None or self._kind != "FINAL_ONLY":
                    yield self._output(progress.output, finished, progress.stop_reason if stop is None else stop)
                if finished is not None:
                    return

    def _take(self, progress: Progress) -> str | None:
        """Add tokens to the completion; returns the stop string of the request that they complete."""
        tokens = progress.tokens
        by_token = progress.finish_reason == "stop"
        stop = self._detokenizer.update([token.id for token in tokens], by_token)
        kept = len(self._detokenizer.output_token_ids) - len(self._tokens)
        self._tokens += tokens[:kept]
        return stop

    def _output(self, piece: Any, finish_reason: str | None, stop_reason: str | int | None) -> Any:
        delta = self._kind == "DELTA"
        whole = not delta or self._handed == 0
        tokens = self._tokens[self._handed :] if delta else self._tokens
        self._handed = len(self._tokens)
        part = copy.copy(piece.outputs[0])
        part.index = self._index
        part.text = self._detokenizer.get_next_output_text(finish_reason is not None, delta)
        part.token_ids = [token.id for token in tokens]
        part.logprobs = [token.logprobs for token in tokens] if self._scored else None
        part.cumulative_logprob = (
            sum(token.logprobs[token.id].logprob for token in self._tokens if token.logprobs) if self._scored else None
        )
        part.finish_reason, part.stop_reason = finish_reason, stop_reason
        part.forced_exit = self._steered.forced_exit
        output = copy.copy(piece)
        output.outputs = [part]
        first = self._steered.first
        output.num_cached_tokens = first.num_cached_tokens
        output.prompt_logprobs = first.prompt_logprobs if whole else None
        return output


async def _outputs(
    choices: Sequence[_Choice], prompt: Mapping[str, Any], kind: str, request_id: str
) -> AsyncGenerator[Any, None]:
    """The outputs of a request of several choices, as one engine request has them."""
    done: dict[int, Any] = {}
    async with aclosing(_merged([choice.outputs() for choice in choices])) as outputs:
        async for output in outputs:
            (part,) = output.outputs
            if part.finish_reason is not None:
                done[part.index] = part
            output.request_id = request_id
            output.prompt, output.prompt_token_ids = prompt.get("prompt"), prompt["prompt_token_ids"]
            output.finished = len(done) == len(choices)
            if kind != "FINAL_ONLY":
                yield output
            elif output.finished:
                output.outputs = [done[index] for index in sorted(done)]
                yield output


async def _merged(streams: Sequence[AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
    """Everything that the streams yield, as it comes."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield item
        return
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def pump(stream: AsyncIterator[Any]) -> None:
        async for item in stream:
            queue.put_nowait(item)

    tasks = [asyncio.create_task(pump(stream)) for stream in streams]
    everything = asyncio.gather(*tasks)

    def ended(all_pumps: "asyncio.Future[Any]") -> None:
        if not all_pumps.cancelled():
            all_pumps.exception()  # where the client has left, nobody else asks for it, which asyncio would log
        queue.put_nowait(None)

    everything.add_done_callback(ended)
    try:
        while (item := await queue.get()) is not None:
            yield item
        await everything
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
