"""A fake model with one story to tell: it thinks what the story thinks, and answers by where its thinking ended.

Pieces behave as vLLM's do: tokens come at once, text is held back as long as a stop string could cut it off, and the
tokens of a stop string stay in the piece.
"""

from asyncio import sleep
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from math import log
from types import SimpleNamespace
from typing import Any

from server.steering import Piece

END = "<|im_end|>"


class Story:
    """Pieces of one story.

    Args:
        words: the tokenizer.
        thought: the thinking block with its tags, as the model would write it, or any text without one.
        answer: follows the closed block.
        trials: by how the thinking so far ends: the trial answer and the probability of its tokens, or those of each.
        chunk: tokens in one output.
    """

    def __init__(self, words: Any, thought: str, answer: str = " So 4.", chunk: int = 1, **more: Any) -> None:
        self.text = words
        self.thought = thought
        self.answer = answer
        self.chunk = chunk
        self.trials: Mapping[str, tuple[str, float | Sequence[float]]] = more.get("trials", {})
        self.pieces: list[Piece] = []
        self.running = 0
        self.prompt = ""

    def detokenizer(self, sampling: Any, prompt: Sequence[int]) -> "Detokenizer":
        return Detokenizer(self.text, sampling.stop)

    def sampler(self, prompt: Mapping[str, Any], *_: Any) -> "Story":
        self.prompt = self.text.decode(prompt["prompt_token_ids"])
        return self

    def sample(self, piece: Piece) -> AsyncGenerator[Any, None]:
        self.pieces.append(piece)
        before = self.text.decode(piece.prompt)
        path = before.removeprefix(self.prompt)
        if piece.kind == "trial":
            said, probability = next(
                (trial for end, trial in self.trials.items() if path.partition("\n**Final")[0].endswith(end)),
                ("{?}</think>", 0.1),
            )
        elif piece.kind == "answer":
            rest = self.thought[len(path) :] if self.thought.startswith(path) else ""
            said, probability = rest + self.answer + END, 0.5
        else:
            assert self.thought.startswith(path), f"{path!r} is not how the story goes"
            said, probability = self.thought[len(path) :] + self.answer + END, 0.5
        return self._outputs(piece, self.text.encode(said), probability)

    async def _outputs(
        self, piece: Piece, tokens: list[int], probability: float | Sequence[float]
    ) -> AsyncGenerator[Any, None]:
        each = [probability] * len(tokens) if isinstance(probability, float) else probability
        scores = [self.logprob(token, probable) for token, probable in zip(tokens, each, strict=True)]
        self.running += 1
        async with AsyncExitStack() as stack:
            stack.callback(lambda: setattr(self, "running", self.running - 1))
            text, shown, new = Detokenizer(self.text, piece.stop), "", 0
            for position, token in enumerate(tokens, 1):
                ended = token == self.text.encode(END)[0]
                stop = text.update([token], ended)
                reason = "stop" if ended or stop else "length" if position == piece.max_tokens else None
                if reason is None and position % self.chunk:
                    continue
                shown += text.get_next_output_text(reason is not None, True)
                part = SimpleNamespace(
                    index=0,
                    text=shown,
                    token_ids=tokens[new:position],
                    logprobs=scores[new:position],
                    cumulative_logprob=0.0,
                    finish_reason=reason,
                    stop_reason=stop,
                )
                before = [None, *(self.logprob(each, 0.25) for each in piece.prompt[1:])]
                await sleep(0)
                yield SimpleNamespace(
                    prompt_token_ids=piece.prompt,
                    prompt_logprobs=before if piece.score_prompt and not new else None,
                    num_cached_tokens=7,
                    outputs=[part],
                )
                shown, new = "", position
                if reason is not None:
                    return

    @staticmethod
    def logprob(token: int, probability: float) -> dict[int, Any]:
        return {token: SimpleNamespace(logprob=log(probability))}


class Detokenizer:
    """vLLM's, for words."""

    def __init__(self, words: Any, stop: Sequence[str]) -> None:
        self._words = words
        self._stop = stop
        self._hold = max(map(len, stop), default=1) - 1
        self._text = ""
        self._shown = 0
        self.output_token_ids: list[int] = []

    def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
        for number, token in enumerate(new_token_ids, 1):
            self.output_token_ids.append(token)
            if not (stop_terminated and number == len(new_token_ids)):
                self._text += self._words.decode([token])
            found = [(self._text.index(stop), stop) for stop in self._stop if stop in self._text]
            if found:
                at, stop = min(found)
                self._text = self._text[:at]
                return stop
        return None

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        end = len(self._text) if finished else max(self._shown, len(self._text) - self._hold)
        start, self._shown = (self._shown if delta else 0), end
        return self._text[start:end]
