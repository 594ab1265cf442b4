"""Text of tokens as they come, by the incremental decoder that vLLM's own detokenizer uses."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any


class TokenStream:
    """Decodes one token after another; holds bytes back until they make a character.

    Args:
        backend: the tokenizer.
        silent: tokens without text.
        known: texts of tokens that are whole characters, shared by all streams; None where text depends on what stands
            before it, as it does not in a tokenizer of bytes.
        after: the tokens before.
    """

    def __init__(
        self, backend: Any, silent: frozenset[int], known: dict[int, str] | None, after: Sequence[int] = ()
    ) -> None:
        self._backend = backend
        self._silent = silent
        self._known = known
        self._after = list(after)
        self._holds = bool(after)
        self._decode: Callable[[int], str | None] | None = None

    def texts(self, tokens: Sequence[int]) -> list[str]:
        """The text that each of some tokens completes."""
        if self._known is not None and not self._holds and self._silent.isdisjoint(tokens):
            try:
                return [*map(self._known.__getitem__, tokens)]
            except KeyError:
                pass
        return [*map(self.next, tokens)]

    def next(self, token: int) -> str:
        """The text that a token completes."""
        if token in self._silent:
            return ""
        if self._known is not None and not self._holds and token in self._known:
            return self._known[token]
        return self._decoded(token)

    def _decoded(self, token: int) -> str:
        try:
            self._decode = self._decode or self._decoder()
            text = self._decode(token) or ""
        except Exception:  # the decoder raises plain exceptions; vLLM goes on with a fresh one, too
            self._after, self._decode, self._holds = [], None, False
            return ""
        if self._known is not None and text and not self._holds:
            self._known[token] = text
        self._holds = not text
        return text

    def _decoder(self) -> Callable[[int], str | None]:
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(ids=self._after, skip_special_tokens=False)
        return partial(stream.step, self._backend)
