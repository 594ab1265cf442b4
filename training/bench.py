"""``stepgrpo bench train``, ``stepgrpo bench pruning`` and ``stepgrpo bench methods``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from training.cli import Overrides, clear_errors, progress, read_recipe
from training.recipe import Recipe

app = typer.Typer(no_args_is_help=True)
bench = typer.Typer(no_args_is_help=True, help="Measure training.")
app.add_typer(bench, name="bench")
console = Console()

RecipeName = Annotated[str, typer.Argument(help="Name of a bundled recipe, or a YAML file.")]
Start = Annotated[
    Path | None,
    typer.Option(help="Checkpoint to start from; by default the recipe's (model.path), else checkpoints/base."),
]


@app.callback()
def commands() -> None:
    """Measure training."""


@bench.command()
def train(
    recipe: RecipeName = "quickstart",
    base: Start = None,
    output: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("runs/bench"),
    samples: Annotated[int, typer.Option(min=1, help="Completions a step, in whole groups.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    overrides: Overrides = None,
) -> None:
    """Time one training step by its parts, and against lock-step rounds, TRL's stock step and transformers.

    stepgrpo bench train quickstart --base checkpoints/base
    """
    loaded = read_recipe(recipe, overrides or ())
    with clear_errors():
        from training.step_bench import bench_step

        start = _start(loaded, base)
        with progress() as on_stage:
            found = bench_step(loaded, start, output, on_stage, samples=samples, rounds=rounds)
    console.print(Markdown(found.as_markdown()))
    console.print(f"written to {output}")


@bench.command()
def pruning(
    recipe: RecipeName = "quickstart",
    base: Start = None,
    output: Annotated[Path, typer.Option(help="Folder for checkpoints and figures.")] = Path("runs/pruning"),
    steps: Annotated[int, typer.Option(min=1, help="Steps a run.")] = 8,
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions.")] = 500,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each kind.")] = 1,
    overrides: Overrides = None,
) -> None:
    """Train with and without pruning, and compare what was trained on, accuracy and savings.

    stepgrpo bench pruning quickstart --base checkpoints/base
    """
    loaded = read_recipe(recipe, overrides or ())
    with clear_errors():
        from training.pruning_bench import bench_pruning

        start = _start(loaded, base)
        with progress() as on_stage:
            found = bench_pruning(loaded, start, output, on_stage, steps=steps, questions=questions, seeds=seeds)
    console.print(Markdown(found.as_markdown()))
    console.print(f"written to {output}")


@bench.command()
def methods(
    recipe: RecipeName = "quickstart",
    base: Annotated[Path | None, typer.Option(help="Checkpoint to start from; trained if none.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for all runs; finished ones are kept.")] = Path("runs/methods"),
    only: Annotated[str, typer.Option(help="Methods or module:attribute, separated by commas; all by default.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Final runs of each method.")] = 3,
    trials: Annotated[int, typer.Option(min=1, max=3, help="Settings tried for each method.")] = 3,
    token_budget: Annotated[int, typer.Option(min=1, help="Sampled tokens of a final training run.")] = 400_000,
    trial_budget: Annotated[int, typer.Option(min=1, help="Sampled tokens of a trial.")] = 125_000,
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions a measurement.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time, each on one core.")] = 2,
    overrides: Overrides = None,
) -> None:
    """Train, tune and measure all methods from the same base on the same budget of sampled tokens.

    stepgrpo bench methods quickstart --output runs/methods
    """
    loaded = read_recipe(recipe, overrides or ())
    with clear_errors():
        from training.comparison import GRIDS, compare_methods

        chosen = tuple(name.strip() for name in only.split(",") if name.strip()) or tuple(GRIDS)
        with progress() as on_stage:
            report = compare_methods(
                loaded,
                output,
                on_stage,
                methods=chosen,
                seeds=seeds,
                trials=trials,
                token_budget=token_budget,
                trial_budget=trial_budget,
                questions=questions,
                workers=workers,
                base=base,
            )
    console.print(Markdown((report / "comparison.md").read_text()))
    console.print(f"written to {report}")


def _start(recipe: Recipe, base: Path | None) -> Path:
    """The checkpoint that was named, the recipe's own (folder or hub name) or the bundled base.

    Raises:
        TrainingError: it is no checkpoint.
    """
    from training.answering import load_tokenizer

    start = base or Path(recipe.model.path or "checkpoints/base")
    load_tokenizer(str(start))
    return start
