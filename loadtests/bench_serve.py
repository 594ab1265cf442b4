"""``stepgrpo bench serve``: our server against vLLM's own, side by side in one run."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Final

import typer

from loadtests.bench_serve_load import Load, LoadError, Measured, run_load
from loadtests.bench_serve_report import HEADER, LEAST_THROUGHPUT, MOST_FIRST, Pair, Row, line_of, row_of
from loadtests.bench_serve_servers import MODEL, Server, both

BUNDLED: Final = Path(__file__).resolve().parent.parent / "checkpoints" / "step-grpo"
WARM_UP: Final = Load(concurrency=8, requests=16, tokens=16, stream=True)
REST_SECONDS: Final = 1.5
"""Between runs. For a second after its last step vLLM's engine polls for the next, at the other server's expense."""

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
    starts: Annotated[int, typer.Option(min=1, help="How often both servers are started anew.")] = 1,
    requests: Annotated[int, typer.Option(min=1, help="Requests of a run; at least two for each in flight.")] = 48,
    tokens: Annotated[int, typer.Option(min=1, help="Completion tokens of an answer.")] = 64,
    urls: Annotated[
        str, typer.Option(help="OURS,STOCK: URLs of servers that run already, each serving the model as 'bench'.")
    ] = "",
    check: Annotated[bool, typer.Option(help="End with status 1 where a ratio is out of bounds.")] = False,
) -> None:
    """Measure throughput and time to the first token, ours against vLLM's own server on the same checkpoint.

    Both are started here with the same options; further ones are passed on to both. They are loaded in turns, in
    changing order, with the same questions. Every answer has the same number of tokens. CPU time is that of all
    processes of a server; unlike the rest, it depends little on what else the machine does. A process may be some per
    cent faster or slower than its like for as long as it lives, which only further starts can tell from a difference.

    stepgrpo bench serve --concurrency 1,32 --answers stream
    """
    if answers not in ("stream", "whole", "both"):
        raise typer.BadParameter("must be stream, whole or both", param_hint="--answers")
    try:
        counts = [int(count) for count in concurrency.split(",")]
    except ValueError:
        raise typer.BadParameter("must be whole numbers, as in 1,8", param_hint="--concurrency") from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    streams = {"stream": [True], "whole": [False], "both": [True, False]}[answers]
    loads = [Load(count, max(requests, 2 * count), tokens, stream) for stream, count in product(streams, counts)]
    running = list(map(Server, urls.split(","))) if urls else None
    if running is not None and len(running) != 2:
        raise typer.BadParameter("must be two URLs with a comma between them", param_hint="--urls")
    if running is not None and starts != 1:
        raise typer.BadParameter("must be 1 for servers that run already", param_hint="--starts")
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
                asyncio.run(_measure(servers, loads, rounds, take))
    except LoadError as error:
        typer.echo(f"stepgrpo bench serve: {error}", err=True)
        raise typer.Exit(1) from None
    failing = [row for row in rows if not row.passes]
    bounds = f"throughput at least {LEAST_THROUGHPUT} x, p99 of the first token at most {MOST_FIRST} x"
    typer.echo(f"{len(rows) - len(failing)} of {len(rows)} rows within bounds ({bounds})")
    if check and failing:
        raise typer.Exit(1)


async def _measure(
    servers: Sequence[Server], loads: Sequence[Load], rounds: int, take: Callable[[Load, list[Pair]], None]
) -> None:
    for server in servers:
        await run_load(server.url, MODEL, WARM_UP, seed=0)
    for load in loads:
        take(load, await _pairs(servers, load, rounds))


async def _pairs(servers: Sequence[Server], load: Load, rounds: int) -> list[Pair]:
    pairs: list[Pair] = []
    for number in range(1, rounds + 1):
        order = (0, 1) if number % 2 else (1, 0)
        runs: dict[int, Measured] = {}
        for which in order:
            await asyncio.sleep(REST_SECONDS)
            runs[which] = await _run(servers[which], load, seed=number)
        pairs.append((runs[0], runs[1]))
    return pairs


async def _run(server: Server, load: Load, seed: int) -> Measured:
    before = server.cpu_seconds()
    measured = await run_load(server.url, MODEL, load, seed)
    after = server.cpu_seconds()
    return measured if before is None or after is None else replace(measured, cpu_seconds=after - before)
