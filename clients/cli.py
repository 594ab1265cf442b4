"""``stepgrpo ask`` and ``stepgrpo compare``."""

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from clients.client import DEFAULT_URL, AsyncClient, Client, Options
from clients.control import EarlyExit, ExitControl

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

Temperature = Annotated[
    float | None, typer.Option(min=0, help="0 takes the most probable token each time; the model's own by default.")
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Most tokens of thinking and answer.")]
Seed = Annotated[int | None, typer.Option(help="Makes sampling repeatable.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the server.")]


@app.callback()
def commands() -> None:
    """Ask and compare servers."""


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    url: Annotated[str, typer.Option(envvar="STEPGRPO_URL", help="Where the server is.")] = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="A served name; the server's first by default.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Most reasoning steps.")] = None,
    token_budget: Annotated[int | None, typer.Option(min=0, help="Most tokens of thinking.")] = None,
    early_exit: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="THRESHOLD", help="Leave the thinking at this confidence, such as 0.95."),
    ] = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    marker: Annotated[
        list[str] | None,
        typer.Option(help="A word that opens a step on the screen, instead of the server's; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer and its report as JSON.")] = False,
    timeout: Timeout = 600,
) -> None:
    """Ask a server, and see the thinking step by step, its exit and what that saved.

    The API key, where the server wants one, is read from STEPGRPO_API_KEY. NO_COLOR=1 turns colours off.

    [bold]Examples[/bold]

    stepgrpo ask "Tom has 12 apples and buys 7 more. How many apples does Tom have?"

    stepgrpo ask --max-steps 2 --temperature 0 "How much is 12 plus 7?"

    echo "How much is 12 plus 7?" | stepgrpo ask --json -
    """
    from clients.ask import show
    from clients.failures import Failure, advice
    from clients.steps import markers_of

    text = sys.stdin.read().strip() if question == "-" else question
    if not text:
        _fail("ask", "the question is empty")
    control = ExitControl(
        max_reasoning_steps=max_steps,
        thinking_token_budget=token_budget,
        early_exit=None if early_exit is None else EarlyExit(threshold=early_exit),
    )
    options = _options(temperature, max_tokens, seed)
    client = Client(url, model=model, timeout=timeout)
    try:
        client.openai.with_options(max_retries=0).models.list()  # an absent server is said at once
        if as_json:
            typer.echo(_json(client.ask(text, control, **options)))
        else:
            show(client.stream(text, control, **options), Console(highlight=False), marker or markers_of(url))
    except Failure as error:
        _fail("ask", advice(error, url), code=1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        client.close()


@app.command()
def compare(
    questions: Annotated[
        Path, typer.Argument(help="Questions: text, one a line, or JSON lines with `question` and perhaps `answer`.")
    ],
    base: Annotated[str, typer.Option(metavar="URL", help="Server of the base model.")],
    tuned: Annotated[str, typer.Option(metavar="URL", help="Server of the tuned model.")],
    base_model: Annotated[str | None, typer.Option(help="Its served name there; the first by default.")] = None,
    tuned_model: Annotated[str | None, typer.Option(help="Its served name there; the first by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first questions.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight at each server.")] = 8,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option(help="Folder for compare.json, compare.md and compare.svg.")] = None,
    timeout: Timeout = 600,
) -> None:
    """Ask two servers the same questions, and see what the tuned model saves, with its 95 % interval.

    [bold]Examples[/bold]

    stepgrpo compare --base http://127.0.0.1:8001 --tuned http://127.0.0.1:8000 loadtests/questions.jsonl --limit 100

    stepgrpo compare --base http://gpu:8000 --base-model qwen3 --tuned http://gpu:8000 --tuned-model step-grpo my.txt
    """
    from clients.compare import InvalidQuestionsError, Respondent, ask_both, read_questions
    from clients.comparison import Comparison
    from clients.failures import Failure, advice

    try:
        asked = read_questions(questions)[:limit]
    except InvalidQuestionsError as error:
        _fail("compare", str(error))
    if output is not None and find_spec("matplotlib") is None:
        _fail("compare", "--output draws a plot: pip install matplotlib, or leave it out")
    options = _options(temperature, max_tokens, seed)
    console = Console(markup=False, emoji=False, highlight=False)

    async def run() -> Comparison:
        async with (
            AsyncClient(base, model=base_model, timeout=timeout) as of_base,
            AsyncClient(tuned, model=tuned_model, timeout=timeout) as of_tuned,
        ):
            for client, url in ((of_base, base), (of_tuned, tuned)):
                try:
                    await client.openai.with_options(max_retries=0).models.list()
                except Failure as error:
                    _fail("compare", advice(error, url), code=1)
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task("asking both", total=2 * len(asked))
                first, second = (Respondent(client, concurrency) for client in (of_base, of_tuned))
                return await ask_both(first, second, asked, options, lambda: progress.advance(task))

    comparison = asyncio.run(run())
    if not comparison.pairs:
        _fail("compare", f"no question was answered by both: {comparison.failures[0].error}", code=1)
    from clients.compare_report import table, write

    if output is not None:
        write(comparison, output)
    console.print(table(comparison))
    console.print(comparison.verdict())
    if output is not None:
        console.print(f"report and plot: {output}")
    if comparison.failures:
        _fail("compare", f"{len(comparison.failures)} questions failed, first: {comparison.failures[0].error}", code=1)


def _options(temperature: float | None, max_tokens: int | None, seed: int | None) -> Options:
    options: Options = {}
    if temperature is not None:
        options["temperature"] = temperature
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    if seed is not None:
        options["seed"] = seed
    return options


def _json(answer: object) -> str:
    from pydantic import TypeAdapter

    return TypeAdapter(type(answer)).dump_json(answer, indent=2).decode()


def _fail(command: str, message: str, code: int = 2) -> NoReturn:
    typer.echo(f"stepgrpo {command}: {message}", err=True)
    raise typer.Exit(code)
