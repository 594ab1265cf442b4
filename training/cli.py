"""``stepgrpo train`` and ``stepgrpo eval``."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reasoning import CARD_NAME
from training.data import GENERATED, DataError
from training.errors import TrainingError
from training.folders import Folders
from training.plan import HARDWARE, HardwareName, estimate
from training.progress import StageCallback, StepCallback
from training.recipe import Recipe, RecipeError, load_recipe

app = typer.Typer(no_args_is_help=True)
MAIN_PROCESS = os.environ.get("RANK", "0") == "0"
"""Of those that `accelerate launch` starts."""
console = Console(quiet=not MAIN_PROCESS)
SHOWN = ("loss", "reward", "accuracy", "completion_tokens", "steps")
OUT_OF_MEMORY = (
    "the GPU's memory is used up: lower grpo.micro_batch or rollout.gpu_memory, or --set"
    " grpo.gradient_checkpointing=true; `stepgrpo train --resume` goes on with such values"
)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated.")
]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a bundled recipe, or a YAML file.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints and report.")] = Path("runs"),
    method: Annotated[
        str | None,
        typer.Option(help="Method by its name or module:attribute; the recipe's by default."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, data and sampling; the recipe's by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run into OUTPUT stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, over what an earlier run into OUTPUT made.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only print what the run needs in memory and time.")] = False,
    devices: Annotated[int | None, typer.Option(min=1, help="With --plan: how many GPUs or CPU cores.")] = None,
    hardware: Annotated[HardwareName | None, typer.Option(help="With --plan: what kind of them.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve the training metrics to Prometheus on this port.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train a recipe: the base model, its Step-GRPO checkpoint, and, on generated questions, the calibration of both.

    stepgrpo train quickstart --output runs/quickstart --seed 1
    """
    chosen = {"seed": seed, "method": method}
    options = [f"{key}={value}" for key, value in chosen.items() if value is not None]
    loaded = read_recipe(recipe, [*(overrides or ()), *options])
    if plan:
        with clear_errors():
            from training.methods import load_method

            load_method(loaded.method)
            needs = estimate(loaded, devices=devices, hardware=HARDWARE[hardware] if hardware else None)
        console.print(Markdown(needs.as_markdown()))
        return
    if devices or hardware:
        _fail("--devices and --hardware are for --plan; `accelerate launch` says how many processes train")
    with clear_errors():
        from training.pipeline import run_recipe
        from training.prometheus import exporters

        with progress() as on_stage:
            report = run_recipe(
                loaded, output, on_stage, resume=resume, overwrite=overwrite, callbacks=exporters(metrics_port)
            )
    _show(report)
    if MAIN_PROCESS and loaded.data.name not in GENERATED:
        typer.echo(f"its savings are not measured yet: {_calibrating(recipe, loaded, output)}")


@app.command("eval")
def evaluate(
    recipe: Annotated[str, typer.Argument(help="The recipe that the checkpoints come from.")],
    output: Annotated[
        Path,
        typer.Option(help="Folder with the checkpoints `base` and `step-grpo`; with --benchmark, for the report."),
    ] = Path("runs"),
    split: Annotated[
        Literal["calibration", "test"], typer.Option(help="Held-out questions; `calibration` also stamps the card.")
    ] = "test",
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            help="What to measure models on instead: a public benchmark, a file of questions, or word-problems; may be"
            " repeated."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="With --benchmark: checkpoint or OpenAI-compatible URL; the first is the reference."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="With --benchmark: answers a question.")] = 1,
    data: Annotated[
        Path | None, typer.Option(help="With --benchmark: folder with its files; the hub by default.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="With --benchmark and two models: stamp the second's card with what it saves."
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Measure base and tuned checkpoint on the same held-out questions, by plain decoding; or any models on benchmarks.

    stepgrpo eval quickstart --output checkpoints --set evaluation.questions=1000

    stepgrpo eval qwen3-8b --model Qwen/Qwen3-8B --model runs/qwen3-8b/step-grpo --benchmark math-500 --samples 4
    """
    loaded = read_recipe(recipe, overrides or ())
    if benchmark:
        if not model:
            _fail("--benchmark needs at least one --model, a checkpoint or the URL of a server")
        with clear_errors():
            from training.benchmark_report import evaluate_models

            with progress() as on_stage:
                report = evaluate_models(
                    loaded,
                    model,
                    benchmark,
                    output,
                    on_stage,
                    samples=samples,
                    folder=data,
                    split=split,
                    calibrate=calibrate,
                )
        _show(report)
        if calibrate:
            typer.echo(f"calibration written to {Path(model[1]) / CARD_NAME}")
        return
    if model or calibrate:
        _fail(f"{'--calibrate' if calibrate else '--model'} needs --benchmark, and a --model for each checkpoint")
    if loaded.data.name not in GENERATED:
        command = _calibrating(recipe, loaded, output)
        _fail(f"{recipe} has no held-out questions; measure it on a benchmark or a file of questions: {command}")
    with clear_errors():
        from training import pipeline

        folders = Folders(output)
        for folder in pipeline.checkpoints(loaded, folders):
            if not (folder / "config.json").exists():
                _fail(f"no checkpoint at {folder}; train one with: stepgrpo train {recipe} --output {output}")
        with progress() as on_stage:
            report = pipeline.calibrate(loaded, folders, on_stage, split)
    _show(report)


@contextmanager
def progress() -> Iterator[StageCallback]:
    """A bar per stage, with the latest metrics beside it."""
    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Progress(*columns, console=console) as progress:

        def on_stage(name: str) -> StepCallback:
            task = progress.add_task(name, total=None, metrics="")

            def on_step(step: int, steps: int, metrics: Mapping[str, float]) -> None:
                shown = "  ".join(f"{key} {metrics[key]:.3g}" for key in SHOWN if key in metrics)
                progress.update(task, completed=step, total=steps, metrics=shown)

            return on_step

        yield on_stage


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a run can fail of, as one line that says what to do."""
    from training.methods import MethodError

    try:
        yield
    except (TrainingError, DataError, MethodError) as error:
        _fail(OUT_OF_MEMORY if _out_of_memory(error.__cause__) else str(error))
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        _fail(OUT_OF_MEMORY)


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether a GPU's memory was used up; who raises that has loaded torch."""
    return "torch" in sys.modules and isinstance(error, sys.modules["torch"].OutOfMemoryError)


def read_recipe(name: str, overrides: Iterable[str]) -> Recipe:
    """The recipe with its overrides; what is wrong with it ends the command with one line."""
    try:
        return load_recipe(name, overrides)
    except RecipeError as error:
        _fail(str(error))


def _show(report: Path) -> None:
    if (report / "report.md").exists():
        console.print(Markdown((report / "report.md").read_text()))
    console.print(f"written to {report}")


def _calibrating(name: str, recipe: Recipe, output: Path) -> str:
    """The command that measures and calibrates the checkpoint of a recipe on data of its own."""
    folders = Folders(output)
    models = f"--model {folders.start(recipe)} --model {folders.tuned}"
    return f"stepgrpo eval {name} {models} --benchmark NAME --output {output / 'eval'} --calibrate"


def _fail(message: str) -> NoReturn:
    typer.echo(f"stepgrpo: {message}", err=True)
    raise typer.Exit(2)
