"""Token paths that text is cut from and appended to, as the tokenizer itself would have encoded them."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

JUNCTION = 8


def joined(tokenizer: PreTrainedTokenizerBase, tokens: list[int], text: str) -> tuple[list[int], int]:
    """``tokens`` with ``text`` appended, and how many of them stayed; the junction is encoded anew, as BPE would."""
    start = max(0, len(tokens) - JUNCTION)
    tail = tokens[start:]
    fresh = tokenizer.encode(tokenizer.decode(tail) + text, add_special_tokens=False)
    same = next((i for i, (a, b) in enumerate(zip(tail, fresh, strict=False)) if a != b), min(len(tail), len(fresh)))
    return tokens[:start] + fresh, start + same


def cut_at(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], text: str) -> tuple[int, str]:
    """Where ``text`` ends in ``tokens``: how many tokens lie in it whole, and what it holds of the next one."""
    count = len(tokens)
    while count and len(tokenizer.decode(tokens[:count])) > len(text):
        count -= 1
    return count, text[len(tokenizer.decode(tokens[:count])) :]


def plain_text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    """The decoded path, without an end-of-sequence token at its end."""
    ends = tokens[:-1] if tokens and tokens[-1] == tokenizer.eos_token_id else tokens
    return str(tokenizer.decode(ends))
