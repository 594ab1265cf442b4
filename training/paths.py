"""Token paths that text is cut from and appended to, as the tokenizer itself would have encoded them."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

import reasoning
from reasoning.joining import UNDECODED


def joined(tokenizer: PreTrainedTokenizerBase, tokens: list[int], text: str) -> tuple[list[int], int]:
    """:func:`reasoning.joined` with a tokenizer of transformers."""

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    return reasoning.joined(encode, tokenizer.decode, tokens, text)


def cut_at(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], text: str) -> tuple[int, str]:
    """Where ``text`` ends in ``tokens``: how many tokens lie in it whole, and what it holds of the next ones.

    A character of ``text`` whose last byte shares a token with what follows is not in whole tokens.
    """
    count, whole = len(tokens), tokenizer.decode(tokens)
    while len(whole) > len(text) or whole[-1:] == UNDECODED != text[len(whole) - 1]:
        count -= 1
        whole = tokenizer.decode(tokens[:count])
    return count, text[len(whole) :]


def plain_text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    """The decoded path, without an end-of-sequence token at its end."""
    ends = tokens[:-1] if tokens and tokens[-1] == tokenizer.eos_token_id else tokens
    return str(tokenizer.decode(ends))
