"""What the side-by-side benchmark found: one row for each load, ratios against vLLM's own server."""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.bench_serve_load import Load, Measured

LEAST_THROUGHPUT: Final = 0.98
MOST_FIRST: Final = 1.05
"""p99 of the time to the first token, against vLLM's own server."""
RESAMPLES: Final = 2000
HEADER: Final = (
    "| answers | in flight | tokens/s | vLLM's | ratio (95 %) | p99 first token, ms | vLLM's | ratio (95 %)"
    " | CPU, us a token | vLLM's | ratio (95 %) |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)

Pair = tuple[Measured, Measured]
"""Ours and vLLM's own, measured one right after the other."""


@dataclass(frozen=True, slots=True)
class Row:
    """One load on both servers.

    Attributes:
        load: what was asked.
        throughput: of both, completion tokens per second over all rounds.
        throughput_ratio: ours over vLLM's, with its 95 % interval.
        first: p99 of both, milliseconds to the first token (to the whole answer where it is no stream).
        first_ratio: ours over vLLM's, with its 95 % interval.
        cpu: of both, microseconds of processor time a token; None where it is not known.
        cpu_ratio: ours over vLLM's, with its 95 % interval.
    """

    load: Load
    throughput: tuple[float, float]
    throughput_ratio: tuple[float, float, float]
    first: tuple[float, float]
    first_ratio: tuple[float, float, float]
    cpu: tuple[float, float] | None
    cpu_ratio: tuple[float, float, float] | None

    @property
    def passes(self) -> bool:
        """Whether both ratios are within their bounds; the first token's only where it can be seen, in streams."""
        return self.throughput_ratio[0] >= LEAST_THROUGHPUT and (
            not self.load.stream or self.first_ratio[0] <= MOST_FIRST
        )


def row_of(load: Load, starts: Sequence[Sequence[Pair]]) -> Row:
    """Sum up one load, the rounds of every start. Intervals are percentiles of a bootstrap over starts and rounds."""
    ours, stock = _sides(starts)
    known = all(run.cpu_seconds is not None for run in (*ours, *stock))
    return Row(
        load,
        throughput=(_throughput(ours), _throughput(stock)),
        throughput_ratio=_ratio(starts, _throughput),
        first=(_p99(ours), _p99(stock)),
        first_ratio=_ratio(starts, _p99),
        cpu=(_cpu(ours), _cpu(stock)) if known else None,
        cpu_ratio=_ratio(starts, _cpu) if known else None,
    )


def line_of(row: Row) -> str:
    """The row in a Markdown table under ``HEADER``."""
    cells = ["stream" if row.load.stream else "whole", str(row.load.concurrency)]
    for values, ratio, digits in (
        (row.throughput, row.throughput_ratio, 0),
        (row.first, row.first_ratio, 1),
        (row.cpu, row.cpu_ratio, 0),
    ):
        if values is None or ratio is None:
            cells += ["-"] * 3
        else:
            cells += [*(f"{value:.{digits}f}" for value in values), "{:.3f} ({:.3f} to {:.3f})".format(*ratio)]
    return f"| {' | '.join(cells)} |"


def _sides(starts: Sequence[Sequence[Pair]]) -> tuple[list[Measured], list[Measured]]:
    """All runs of ours, and all of vLLM's own."""
    pairs = [pair for rounds in starts for pair in rounds]
    return [ours for ours, _ in pairs], [stock for _, stock in pairs]


def _throughput(runs: Sequence[Measured]) -> float:
    return sum(run.completion_tokens for run in runs) / sum(run.seconds for run in runs)


def _cpu(runs: Sequence[Measured]) -> float:
    """Microseconds a token."""
    return 1e6 * sum(run.cpu_seconds or 0.0 for run in runs) / sum(run.completion_tokens for run in runs)


def _p99(runs: Sequence[Measured]) -> float:
    """Milliseconds, over the requests of all rounds."""
    first = [seconds for run in runs for seconds in run.first]
    return 1000 * (statistics.quantiles(first, n=100, method="inclusive")[98] if len(first) > 1 else first[0])


def _ratio(starts: Sequence[Sequence[Pair]], of: Callable[[Sequence[Measured]], float]) -> tuple[float, float, float]:
    def ratio(chosen: Sequence[Sequence[Pair]]) -> float:
        ours, stock = _sides(chosen)
        return of(ours) / of(stock)

    draw = random.Random(0)

    def again() -> list[list[Pair]]:
        return [draw.choices(rounds, k=len(rounds)) for rounds in draw.choices(starts, k=len(starts))]

    resampled = sorted(ratio(again()) for _ in range(RESAMPLES))
    return ratio(starts), resampled[int(0.025 * RESAMPLES)], resampled[int(0.975 * RESAMPLES)]
