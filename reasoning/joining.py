"""Text appended to a token path, as the tokenizer itself would have encoded the whole.

A trial answer must look the same to the model wherever it is asked for, in a training rollout or by the server: with
BPE, ``.`` and a line break behind it may be one token, and a confidence after two is another one.
"""

from collections.abc import Callable, Sequence
from typing import Final

JUNCTION: Final = 8
"""Tokens before appended text that are encoded anew with it."""
LONGEST_CHARACTER: Final = 4
"""In bytes, and so in tokens."""
UNDECODED: Final = "\ufffd"
"""What decoding gives for bytes that are no whole character."""


def joined(
    encode: Callable[[str], list[int]], decode: Callable[[list[int]], str], tokens: Sequence[int], text: str
) -> tuple[list[int], int]:
    """``tokens`` with ``text`` appended, and how many of them stayed; the junction is encoded anew, as BPE would.

    The junction begins where a character does. Where one before it is not whole, all tokens stay as they are.

    Args:
        encode: tokens of a text, no special ones added.
        decode: text of tokens, special ones included.
        tokens: of the path.
        text: to append.
    """
    path = list(tokens)
    first = max(0, len(path) - JUNCTION)
    for start in range(first, max(0, first - LONGEST_CHARACTER + 1) - 1, -1):
        tail = path[start:]
        before = decode(tail)
        if UNDECODED not in before:
            break
    else:
        return path + encode(text), len(path)
    fresh = encode(before + text)
    same = next((i for i, (a, b) in enumerate(zip(tail, fresh, strict=False)) if a != b), min(len(tail), len(fresh)))
    return path[:start] + fresh, start + same
