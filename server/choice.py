"""One choice while it is sampled: token by token through a segmenter, as the client will see its text.

Tokens are decoded here one by one, whatever pieces the engine hands them out in. So a stream, a reply in one piece and
a stream that was merged under load give the same steps and the same counts for the same tokens.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from reasoning import ExitReason, Segmenter, Trace

LAG: Final = 32
"""Tokens that wait to be metered together, which costs a stream less than one by one."""


class Choice:
    """Meters one choice.

    Args:
        segmenter: a fresh one, told whether the prompt has opened the thinking block.
        decode: turns the next token ids into the text that each completes; None where the tokenizer cannot do that, and
            the engine's own text is taken instead, exact to within a piece.
        hidden_stops: stop strings that the engine cuts out of the text.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        decode: Callable[[Sequence[int]], list[str]] | None,
        hidden_stops: Sequence[str] = (),
    ) -> None:
        self._segmenter = segmenter
        self._decode = decode
        self._waiting: list[int] = []
        self._held: deque[str] = deque()
        self._held_length = 0
        self._hold = max(map(len, hidden_stops), default=0)

    @property
    def exact(self) -> bool:
        """Whether every token is decoded by itself."""
        return self._decode is not None

    def feed(self, token_ids: Sequence[int], text: str) -> None:
        """Take in new tokens; ``text`` is the engine's text of them."""
        if self._decode is None:
            self._segmenter.feed(text, len(token_ids))
            return
        self._waiting += token_ids
        if len(self._waiting) >= LAG:
            self._flush()

    def finish(
        self,
        token_ids: Sequence[int],
        text: str,
        finish_reason: str,
        stop: str | int | None,
        forced: ExitReason | None = None,
    ) -> Trace:
        """Take in the last tokens and close.

        Args:
            token_ids: the last new tokens.
            text: the engine's text of them.
            finish_reason: the engine's.
            stop: the stop string, or the stop token of the request, that ended the choice.
            forced: why an exit policy closed the thinking block, where one did.
        """
        by_token = finish_reason == "stop" and not isinstance(stop, str) and len(token_ids) > 0
        if by_token and self._decode is not None:
            self.feed(token_ids[:-1], text)
            self._flush()
            self._release()
            self._segmenter.feed("", 1)
        else:
            self.feed(token_ids, text)
            self._flush()
            self._release(stop if isinstance(stop, str) else None)
        if finish_reason not in ("stop", "length"):
            return self._segmenter.close("stop", stopped=True, forced=forced)
        return self._segmenter.close(finish_reason, stopped=stop is not None, forced=forced)

    def _flush(self) -> None:
        """Decode the tokens that wait, and hold back as much text as a stop string could still cut off."""
        if self._decode is None:
            return
        texts = self._decode(self._waiting)
        self._waiting.clear()
        self._segmenter.feed_tokens(self._past_hold(texts) if self._hold else texts)

    def _past_hold(self, texts: Sequence[str]) -> list[str]:
        """Hold texts back; returns those that no stop string can reach any more: one that the last token completes.

        It may end anywhere in that token.
        """
        passed: list[str] = []
        for text in texts:
            self._held.append(text)
            self._held_length += len(text)
            while len(self._held) > 1 and self._held_length - len(self._held[0]) - len(text) >= self._hold - 1:
                passed.append(self._held.popleft())
                self._held_length -= len(passed[-1])
        return passed

    def _release(self, stop: str | None = None) -> None:
        """Feed what was held back, without the stop string that ended it; its tokens count all the same."""
        left = "".join(self._held).rfind(stop) if stop else -1
        left = left if left >= 0 else self._held_length
        while self._held:
            text = self._held.popleft()[:left]
            left -= len(text)
            self._segmenter.feed(text, 1)
        self._held_length = 0
