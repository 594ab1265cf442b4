"""A rollout engine on ``transformers`` alone: batched decoding with a key-value cache, where vLLM is not at hand."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.sampler import Completion, Finish, Request

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What bytes that are no whole character decode to."""
TAIL = 32
"""Tokens at the end of a row in which a stop string is looked for; longer than any marker."""


@dataclass(slots=True)
class _Row:
    """One request under way."""

    id: str
    request: Request
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    completion: Completion | None = None


class TransformersEngine:
    """Decodes what is queued as one batch, to the end of its longest row, at each :meth:`step`.

    Args:
        folder: checkpoint to load.
        device: where the model runs.
        max_sequences: rows decoded at once, their cache included.
        dtype: of the weights.
    """

    def __init__(
        self, folder: str | Path, *, device: str = "cpu", max_sequences: int = 512, dtype: torch.dtype = torch.float32
    ) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._queue: list[_Row] = []
        self._max_sequences = max_sequences
        self._text_of = functools.cache(lambda token: self._tokenizer.decode([token]))
        self._ids = count()

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._queue)

    def submit(self, request: Request) -> str:
        """Queue a request and return its id."""
        row = _Row(str(next(self._ids)), request)
        self._queue.append(row)
        return row.id

    def step(self) -> Iterator[tuple[str, Completion]]:
        """Decode the next batch of the queue and yield its completions."""
        batch, self._queue = self._queue[: self._max_sequences], self._queue[self._max_sequences :]
        self._decode(batch)
        for row in batch:
            assert row.completion is not None
            yield row.id, row.completion

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability of every token after the first, per sequence, under the engine's current weights."""
        scores = []
        for tokens in sequences:
            ids = torch.tensor([list(tokens)], device=self._model.device)
            logits = self._model(input_ids=ids).logits[0, :-1].float()
            scores.append(logits.log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1).tolist())
        return scores

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy the weights; names that the model ties to others may be missing."""
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(weights[name])

    def close(self) -> None:
        """Drop the model."""
        del self._model

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _decode(self, rows: list[_Row]) -> None:
        device = self._model.device
        longest = max(len(row.request.tokens) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.long, device=device)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            prompt = torch.tensor(row.request.tokens, device=device)
            ids[index, longest - len(prompt) :] = prompt
            mask[index, longest - len(prompt) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = None
        live = list(rows)
        while live:
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            logits = output.logits[:, -1].float()
            drawn = self._draw(logits, live)
            top = logits.log_softmax(-1).amax(-1).tolist()
            for row, token, logprob in zip(live, drawn.tolist(), top, strict=True):
                row.tokens.append(token)
                row.logprobs.append(logprob)
                row.completion = self._ended(row)
            keep = torch.tensor([i for i, row in enumerate(live) if row.completion is None], device=device)
            live = [row for row in live if row.completion is None]
            if len(live) < len(mask) and live:
                cache.batch_select_indices(keep)
                mask, positions, drawn = mask[keep], positions[keep], drawn[keep]
            if live:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                ids, positions = drawn[:, None], positions[:, -1:] + 1

    @staticmethod
    def _draw(logits: torch.Tensor, rows: list[_Row]) -> torch.Tensor:
        """One token a row: greedy, or drawn within the nucleus."""
        temperature = torch.tensor([row.request.sampling.temperature for row in rows], device=logits.device)
        top_p = torch.tensor([row.request.sampling.top_p for row in rows], device=logits.device)
        probabilities = (logits / temperature.clamp(min=1e-6)[:, None]).softmax(-1)
        ordered, order = probabilities.sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p[:, None]
        ordered = ordered.masked_fill(outside, 0.0)
        drawn = order.gather(-1, torch.multinomial(ordered, 1)).squeeze(-1)
        return torch.where(temperature == 0, logits.argmax(-1), drawn)

    def _ended(self, row: _Row) -> Completion | None:
        """The completion, if its last token ended it: by end of sequence, a stop string or the limit."""
        finish: Finish | None = None
        stop, text = None, ""
        if row.tokens[-1] == self._tokenizer.eos_token_id:
            finish, text = "eos", self._tokenizer.decode(row.tokens[:-1])
        elif row.request.stop and (found := self._stopped(row)) is not None:
            finish = "stop"
            text, stop = found
        elif len(row.tokens) >= row.request.max_tokens:
            finish, text = "length", self._tokenizer.decode(row.tokens)
        if finish is None:
            return None
        logprobs = tuple(row.logprobs) if row.request.with_logprobs else ()
        return Completion(tuple(row.tokens), text, finish, stop, logprobs)

    def _stopped(self, row: _Row) -> tuple[str, str] | None:
        """The text before the stop string and the string, if the last token ended one (or part of a character)."""
        piece = self._text_of(row.tokens[-1])
        if UNFINISHED not in piece and not any(stop[-1] in piece for stop in row.request.stop):
            return None
        tail = self._tokenizer.decode(row.tokens[-TAIL:])
        if not any(stop in tail for stop in row.request.stop):
            return None
        whole = self._tokenizer.decode(row.tokens)
        at, stop = min((whole.find(stop), stop) for stop in row.request.stop if stop in whole)
        return whole[:at], stop
