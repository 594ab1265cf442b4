"""Token paths that text is cut from and appended to, as the tokenizer itself would have encoded them."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

JUNCTION = 8
"""Tokens before appended text that are encoded anew with it."""
LONGEST_CHARACTER = 4
"""In bytes, and so in tokens."""
UNDECODED = "\ufffd"
"""What decoding gives for bytes that are no whole character."""


def joined(tokenizer: PreTrainedTokenizerBase, tokens: list[int], text: str) -> tuple[list[int], int]:
    """``tokens`` with ``text`` appended, and how many of them stayed; the junction is encoded anew, as BPE would.

    The junction begins where a character does. Where one before it is not whole, all tokens stay as they are.
    """
    first = max(0, len(tokens) - JUNCTION)
    for start in range(first, max(0, first - LONGEST_CHARACTER + 1) - 1, -1):
        tail = tokens[start:]
        before = tokenizer.decode(tail)
        if UNDECODED not in before:
            break
    else:
        return tokens + tokenizer.encode(text, add_special_tokens=False), len(tokens)
    fresh = tokenizer.encode(before + text, add_special_tokens=False)
    same = next((i for i, (a, b) in enumerate(zip(tail, fresh, strict=False)) if a != b), min(len(tail), len(fresh)))
    return tokens[:start] + fresh, start + same


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
