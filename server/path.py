"""The completion under way when an exit policy steers it: its tokens, and which of them are certain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reasoning import joined

Logprobs = Mapping[int, Any]
"""Of one position: by token id, vLLM's ``Logprob``."""


class Tokenizer(Protocol):
    """The part of the served model's tokenizer that a path needs."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a token sequence, special tokens included."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, no special ones added."""

    def decoder(self, after: Sequence[int]) -> Callable[[int], str]:
        """A decoder of the tokens that follow ``after``: the text that each next one completes."""


@dataclass(slots=True)
class Token:
    """One token of a path.

    Attributes:
        id: in the vocabulary.
        logprobs: of its position; None where none were asked for, or not yet known because the token was not sampled.
    """

    id: int
    logprobs: Logprobs | None = None


class Path:
    """Tokens of one completion, cut and appended to as an exit policy says, and handed out once they are certain.

    What has been handed out never changes. So appended text is encoded together with what a cut left of a token, but
    not with whole tokens before it.

    Args:
        prompt: token ids before the path.
        tokenizer: the served model's.
        scored: log-probabilities belong to every token; one without is not handed out.
    """

    def __init__(self, prompt: Sequence[int], tokenizer: Tokenizer, scored: bool = False) -> None:
        self._prompt = list(prompt)
        self._tokenizer = tokenizer
        self._scored = scored
        self._tokens: list[Token] = []
        self._released = 0
        self._decode = tokenizer.decoder(prompt)
        self._piece = 0
        self._texts: list[str] = []
        self._certain = self._certain_length = 0
        self._cut: list[tuple[Token, str]] = []
        self._partial = ""
        self._partial_tokens = 0

    def __len__(self) -> int:
        """Tokens, with those that the text left of a cut token takes by itself."""
        return len(self._tokens) + self._partial_tokens

    @property
    def ids(self) -> list[int]:
        """Prompt and path."""
        return self._prompt + [token.id for token in self._tokens]

    @property
    def unscored(self) -> bool:
        """Whether tokens are held back because their log-probabilities are not known."""
        return self._scored and any(token.logprobs is None for token in self._tokens[self._released :])

    def begin(self, append: str) -> None:
        """Append text and begin a new piece behind it.

        A stop string that is put back keeps the tokens that it was sampled with.
        """
        text = self._partial + append
        sampled = "".join(text for _, text in self._cut)
        if self._cut and text.startswith(sampled):
            self._tokens += [token for token, _ in self._cut]
            text = text.removeprefix(sampled)
        if text and append:
            self._tokens += map(Token, self._tokenizer.encode(text))
        self._cut, self._partial, self._partial_tokens = [], "", 0
        self._piece = len(self._tokens)
        self._texts = []
        self._certain = self._certain_length = 0
        self._decode = self._tokenizer.decoder(self.ids)

    def sampled(self, tokens: Sequence[int], logprobs: Sequence[Logprobs] | None) -> None:
        """Take in what the piece sampled next."""
        for position, token in enumerate(tokens):
            self._tokens.append(Token(token, logprobs[position] if logprobs else None))
            self._texts.append(self._decode(token))

    def score(self, logprobs: Sequence[Logprobs | None]) -> None:
        """Fill in the log-probabilities of appended tokens, from those of all tokens before the piece."""
        for position, token in enumerate(self._tokens[: self._piece], len(self._prompt)):
            if token.logprobs is None:
                token.logprobs = logprobs[position]

    def cut(self, text: str, stop: str) -> str:
        """Cut the piece where its ``text`` ends and ``stop`` begins.

        Returns:
            What the last token cut off holds behind the stop string.
        """
        self._advance(len(text))
        whole, length = self._certain, self._certain_length
        first = self._piece + whole
        self._cut = list(zip(self._tokens[first:], self._texts[whole:], strict=True))
        self._partial = text[length:]
        self._partial_tokens = len(self._tokenizer.encode(self._partial)) if self._partial else 0
        del self._tokens[first:]
        del self._texts[whole:]
        return "".join(text for _, text in self._cut).removeprefix(self._partial + stop)

    def probe(self, text: str) -> list[int]:
        """Prompt and path with ``text`` appended as in a training rollout, which leaves the path as it is."""
        path = [token.id for token in self._tokens]
        return self._prompt + joined(self._tokenizer.encode, self._tokenizer.decode, path, self._partial + text)[0]

    def release(self, shown: int | None = None) -> list[Token]:
        """Hand out the tokens that are certain by now.

        Args:
            shown: length of the piece's text that no stop string can cut off any more; None for all of it.
        """
        if shown is None:
            end = len(self._tokens)
        else:
            self._advance(shown)
            end = self._piece + self._certain
        if self._scored:
            held = (i for i in range(self._released, end) if self._tokens[i].logprobs is None)
            end = next(held, end)
        tokens = self._tokens[self._released : end]
        self._released = max(self._released, end)
        return tokens

    def _advance(self, shown: int) -> None:
        """Find the last token whose text lies within the first ``shown`` characters of the piece's.

        A token without text is a piece of the next one's first character.
        """
        end, length = self._certain, self._certain_length
        while end < len(self._texts) and length + len(self._texts[end]) <= shown:
            length += len(self._texts[end])
            end += 1
            if self._texts[end - 1]:
                self._certain, self._certain_length = end, length
