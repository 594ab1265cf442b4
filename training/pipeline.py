"""The whole story of a recipe: a base model, its Step-GRPO checkpoint, and both measured on the same questions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState  # type: ignore[import-untyped]
from transformers import GenerationConfig

from reasoning import ANSWER_PROMPT, RecipeRef, StepGrpoCard, ThinkTags
from training.calibration import calibration, card_of, stamp
from training.data import GENERATED, held_out
from training.distill import train_distilled
from training.errors import TrainingError
from training.evaluation import measure
from training.folders import BASE, Folders
from training.launch import check_launch
from training.methods import AtInference, Distillation, PolicyGradient, load_method
from training.problems import Split
from training.progress import StageCallback, StepCallback
from training.recipe import Recipe
from training.report import Pair, write_report
from training.sampler import GREEDY, Sampling
from training.sft import train_base
from training.step_log import LOG_NAME
from training.trials import trial_answers

MAX_TRIAL_QUESTIONS = 400


def run_recipe(
    recipe: Recipe,
    output: Path,
    on_stage: StageCallback,
    *,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
) -> Path:
    """Train the base where the recipe has none, post-train it, and measure the two.

    All lands in ``output``. With ``resume``, finished stages are kept and an unfinished post-training goes on from its
    last checkpoint.

    Returns:
        The report's folder; the tuned checkpoint's where the recipe's data is not the generated word problems, which
        alone have held-out questions here. ``stepgrpo eval --calibrate`` measures such a checkpoint.

    Raises:
        TrainingError: the run cannot go on, or has nothing to do.
    """
    folders, method = Folders(output), load_method(recipe.method)
    measured = recipe.data.name in GENERATED
    if isinstance(method, AtInference) and not measured:
        raise TrainingError(
            f"{recipe.method} trains nothing, it is a way to decode: serve the base with --early-exit-threshold"
            f" {recipe.rollout.threshold}, and give its URL to `stepgrpo eval` as a --model"
        )
    check_launch(recipe, method, PartialState().num_processes)
    if recipe.model.path is None:
        prepare_base(recipe, folders.base, on_stage, keep=resume)
    if not isinstance(method, AtInference) and not (resume and _finished(folders.tuned)):
        start, on_step = folders.start(recipe), on_stage(recipe.method)
        post_train(recipe, start, folders.tuned, on_step, resume=resume, callbacks=callbacks)
    return calibrate(recipe, folders, on_stage) if measured else folders.tuned


def checkpoints(recipe: Recipe, folders: Folders) -> list[Path]:
    """Those in ``folders`` that :func:`calibrate` measures."""
    trained = not isinstance(load_method(recipe.method), AtInference)
    return [folders.base] * (recipe.model.path is None) + [folders.tuned] * trained


def prepare_base(recipe: Recipe, folder: Path, on_stage: StageCallback, *, keep: bool = True) -> Path:
    """Train the base into ``folder`` and return it; a finished one that is there is kept if wanted."""
    if not (keep and _finished(folder)):
        train_base(recipe, folder, on_step=on_stage("supervised training of the base"))
        _finish(recipe, folder, "sft")
    return folder


def post_train(
    recipe: Recipe,
    base: str | Path,
    output: Path,
    on_step: StepCallback,
    *,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
) -> None:
    """Train ``base`` by the recipe's method and write the checkpoint with its card to ``output``.

    Raises:
        ValueError: the method has nothing to train.
        TrainingError: the run cannot go on.
    """
    match load_method(recipe.method):
        case PolicyGradient() as method:
            from training.grpo import train_policy

            train_policy(recipe, method, base, output, on_step=on_step, resume=resume, callbacks=callbacks)
        case Distillation() as method:
            train_distilled(recipe, method, base, output, on_step=on_step)
        case AtInference():
            raise ValueError(f"{recipe.method} works at inference time; there is nothing to train")
    if PartialState().is_main_process:
        _finish(recipe, output, recipe.method)


def calibrate(recipe: Recipe, folders: Folders, on_stage: StageCallback, split: Split = "calibration") -> Path:
    """Measure base and tuned on held-out word problems, write the report, and stamp the tuned checkpoint's card.

    Only the ``calibration`` split is stamped, so that the ``test`` split stays unseen by everything that is published
    with the checkpoint. A method at inference time is measured on the base itself, with its rollouts.

    Raises:
        TrainingError: the tuned checkpoint has no card.
    """
    settings, method = recipe.evaluation, load_method(recipe.method)
    stamped = split == "calibration" and not isinstance(method, AtInference)
    if stamped:
        card_of(folders.tuned)
    start = folders.start(recipe)
    questions = held_out(recipe.data, split, recipe.seed, settings.questions)
    sampled = Sampling(settings.temperature, settings.top_p)
    samplings = [sampled, GREEDY]
    done = on_stage("evaluation")
    base = measure(recipe, start, questions, samplings)
    done(1, 3, {})
    if isinstance(method, AtInference):
        tuned = measure(recipe, start, questions, samplings, method.rollouts)
        tuned = [replace(one, name=recipe.method) for one in tuned]
    else:
        tuned = measure(recipe, folders.tuned, questions, samplings)
    done(2, 3, {})
    few = replace(base[0], outcomes=base[0].outcomes[:MAX_TRIAL_QUESTIONS])
    trials = trial_answers(recipe, start, few)
    done(3, 3, {})
    labels = [f"T={sampled.temperature:g}, top-p {sampled.top_p:g}", "greedy"]
    pairs = [Pair(label, one, other) for label, one, other in zip(labels, base, tuned, strict=True)]
    report = folders.report(split)
    write_report(report, pairs, trials, threshold=recipe.rollout.threshold, log=folders.tuned / LOG_NAME)
    if stamped:
        stamp(folders.tuned, calibration(f"{recipe.data.name}/{split}", sampled, base[0], tuned[0]))
    return report


def _finished(folder: Path) -> bool:
    return (folder / "config.json").exists()


def _finish(recipe: Recipe, folder: Path, algorithm: str) -> None:
    """Card and generation settings of a freshly trained checkpoint."""
    _card(recipe, algorithm).save(folder)
    config = GenerationConfig.from_pretrained(folder)
    config.update(do_sample=True, temperature=recipe.evaluation.temperature, top_p=recipe.evaluation.top_p)
    config.save_pretrained(folder)


def _card(recipe: Recipe, algorithm: str) -> StepGrpoCard:
    return StepGrpoCard(
        algorithm=algorithm,
        base_model=recipe.model.path or f"stepgrpo-{recipe.name}-{BASE}",
        think=ThinkTags(start=recipe.model.think[0], end=recipe.model.think[1]),
        markers=recipe.markers,
        answer_prompt=ANSWER_PROMPT,
        recipe=RecipeRef(name=recipe.name, digest=recipe.digest),
    )
