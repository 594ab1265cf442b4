"""The whole story of a recipe: a base model, its Step-GRPO checkpoint, and both measured on the same questions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState  # type: ignore[import-untyped]

from training.answering import load_tokenizer
from training.calibration import calibration, card_of, stamp
from training.data import GENERATED, held_out, take_questions
from training.distill import HARVEST, train_distilled
from training.engines import check_context
from training.errors import TrainingError
from training.evaluation import measure
from training.folders import Folders
from training.launch import check_launch
from training.methods import AtInference, Distillation, PolicyGradient, load_method
from training.problems import Split
from training.progress import StageCallback, StepCallback, counted
from training.recipe import Recipe
from training.report import Pair, write_report
from training.resume import CHECKPOINTS, last_checkpoint
from training.sampler import GREEDY, Sampling
from training.saving import CONFIG, clear_disk_errors
from training.sft import STANDING, train_base
from training.step_log import LOG_NAME
from training.trackers import check_trackers
from training.trials import trial_answers

MAX_TRIAL_QUESTIONS = 400


def run_recipe(
    recipe: Recipe,
    output: Path,
    on_stage: StageCallback,
    *,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Any] = (),
) -> Path:
    """Train the base where the recipe has none, post-train it, and measure the two.

    All lands in ``output``. With ``resume``, finished stages are kept and an unfinished post-training goes on from its
    last checkpoint; with ``overwrite``, what an earlier run made counts no more; with neither, it is an error.

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
    if recipe.model.path is not None and Path(recipe.model.path).resolve() == folders.tuned.resolve():
        raise TrainingError(
            f"model.path {recipe.model.path} is where this run writes its checkpoint: give another --output"
        )
    check_start(recipe)
    made = [folder for folder in checkpoints(recipe, folders) if not resume and _holds_work(folder)]
    if made and not overwrite:
        raise TrainingError(
            f"{output} holds what an earlier run made ({', '.join(folder.name for folder in made)}): go on with it by"
            " --resume, begin anew with --overwrite, or give another --output"
        )
    for folder in made:
        for name in (CONFIG, STANDING):
            (folder / name).unlink(missing_ok=True)
    tuned = isinstance(method, AtInference) or _finished(recipe, folders.tuned)
    if recipe.model.path is None:
        prepare_base(recipe, folders.base, on_stage)
    if not tuned:
        start, on_step = folders.start(recipe), on_stage(recipe.method)
        post_train(recipe, start, folders.tuned, on_step, resume=resume, callbacks=callbacks)
    return calibrate(recipe, folders, on_stage) if measured else folders.tuned


def checkpoints(recipe: Recipe, folders: Folders) -> list[Path]:
    """Those in ``folders`` that :func:`calibrate` measures."""
    trained = not isinstance(load_method(recipe.method), AtInference)
    return [folders.base] * (recipe.model.path is None) + [folders.tuned] * trained


def prepare_base(recipe: Recipe, folder: Path, on_stage: StageCallback) -> Path:
    """Train the base into ``folder`` and return it; a finished one is kept, also one for another method.

    Raises:
        TrainingError: the finished one has other values.
    """
    if not _finished(recipe, folder, base=True):
        train_base(recipe, folder, on_step=on_stage("supervised training of the base"))
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
            train_distilled(recipe, method, base, output, on_step=on_step, resume=resume)
        case AtInference():
            raise ValueError(f"{recipe.method} works at inference time; there is nothing to train")


def calibrate(recipe: Recipe, folders: Folders, on_stage: StageCallback, split: Split = "calibration") -> Path:
    """Measure base and tuned on held-out word problems, write the report, and stamp the tuned checkpoint's card.

    Only the ``calibration`` split is stamped, so that the ``test`` split stays unseen by everything that is published
    with the checkpoint. A method at inference time is measured on the base itself, with its rollouts. The report calls
    the tuned checkpoint by the method that made it.

    Raises:
        TrainingError: the tuned checkpoint has no card.
    """
    settings, method = recipe.evaluation, load_method(recipe.method)
    name = recipe.method if isinstance(method, AtInference) else card_of(folders.tuned).algorithm
    start = folders.start(recipe)
    questions = held_out(recipe.data, split, recipe.seed, settings.questions)
    sampled = Sampling(settings.temperature, settings.top_p)
    samplings = [sampled, GREEDY]
    on_answer = counted(on_stage("evaluation"), 2 * len(samplings) * len(questions))
    base = measure(recipe, start, questions, samplings, on_answer=on_answer)
    if isinstance(method, AtInference):
        tuned = measure(recipe, start, questions, samplings, method.rollouts, on_answer=on_answer)
    else:
        tuned = measure(recipe, folders.tuned, questions, samplings, on_answer=on_answer)
    tuned = [replace(one, name=name) for one in tuned]
    done = on_stage("trial answers")
    few = replace(base[0], outcomes=base[0].outcomes[:MAX_TRIAL_QUESTIONS])
    trials = trial_answers(recipe, start, few)
    done(len(trials), len(trials), {})
    labels = [f"T={sampled.temperature:g}, top-p {sampled.top_p:g}", "greedy"]
    pairs = [Pair(label, one, other) for label, one, other in zip(labels, base, tuned, strict=True)]
    report = folders.report(split)
    with clear_disk_errors(report):
        write_report(report, pairs, trials, threshold=recipe.rollout.threshold, log=folders.tuned / LOG_NAME)
    if split == "calibration" and not isinstance(method, AtInference):
        stamp(folders.tuned, calibration(f"{recipe.data.name}/{split}", sampled, base[0], tuned[0]))
    return report


def check_start(recipe: Recipe) -> None:
    """Refuse, before anything is trained, what would fail when the base is there or the engine has started.

    Raises:
        TrainingError: no such checkpoint or tracker, or completions that are too long for the model.
        DataError: no such data.
    """
    if recipe.model.path is not None:
        load_tokenizer(recipe.model.path)
        check_context(recipe, recipe.model.path)
    take_questions(recipe.data, recipe.seed, 1)
    if recipe.grpo.report_to:
        check_trackers(recipe.grpo.report_to)


def _holds_work(folder: Path) -> bool:
    """Whether a checkpoint is there, or something to go on from."""
    files = (folder / CONFIG, folder / STANDING)
    sampled = any(path.stat().st_size for path in (folder / CHECKPOINTS).glob(HARVEST.format("*")))
    return sampled or any(file.exists() for file in files) or last_checkpoint(folder / CHECKPOINTS) is not None


def _finished(recipe: Recipe, folder: Path, *, base: bool = False) -> bool:
    """Whether the folder holds this recipe's checkpoint.

    Raises:
        TrainingError: it holds another's.
    """
    if not (folder / CONFIG).exists():
        return False
    own = {recipe.digest}
    if base:
        own = {recipe.base_digest, recipe.overridden({"method": Recipe.model_fields["method"].default}).digest}
    if card_of(folder).recipe.digest not in own:
        raise TrainingError(
            f"{folder} was made by other recipe values: give the same recipe, method and --set values, or another"
            " --output"
        )
    return True
