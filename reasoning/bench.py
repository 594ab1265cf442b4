"""Cost of the segmenter per token: ``python -m reasoning.bench``.

Feeds traces token by token, which costs the most, and prints the best of several repeats, so that the figure is the
code's and not the machine's neighbours'. Linear growth shows as the same cost at every length.
"""

import re
import time

from reasoning.segmenter import Segmenter

LENGTHS = (1_000, 4_000, 16_000, 32_000, 64_000, 128_000)
REPEATS = 7
STEP = re.findall(r" \S+", " so the number is < 42 . Then we add What and check it .")
TOKENS_A_STEP = 60


def trace_tokens(count: int) -> list[str]:
    """A trace of ``count`` tokens whose steps have some sixty tokens each."""
    body = (STEP * (TOKENS_A_STEP // len(STEP)))[:-1]
    step = [" Wait", *body]
    tokens = ["<think>", *(step * (count // len(step) + 1))]
    return [*tokens[: count - 1], "</think>"]


def microseconds_per_token(count: int) -> float:
    """Best cost over the repeats, closing the trace included."""
    tokens = trace_tokens(count)
    best = float("inf")
    for _ in range(REPEATS):
        segmenter = Segmenter()
        feed = segmenter.feed
        started = time.perf_counter()
        for token in tokens:
            feed(token, 1)
        segmenter.close("stop")
        best = min(best, time.perf_counter() - started)
    return 1e6 * best / count


def main() -> None:
    """Print the table."""
    print("tokens   microseconds a token")
    for count in LENGTHS:
        print(f"{count:>7,}  {microseconds_per_token(count):.2f}")


if __name__ == "__main__":
    main()
