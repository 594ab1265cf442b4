"""All methods from the same base, on the same budget of sampled tokens, each tuned by the same number of trials."""

import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from training.data import check_held_out, held_out
from training.errors import TrainingError
from training.problems import Split
from training.progress import StageCallback
from training.recipe import Recipe
from training.saving import write_whole

BASE = "base"
_RATES = tuple({"grpo.learning_rate": rate} for rate in (5e-4, 2.5e-4, 1e-3))
_BETAS = tuple({"reward.beta": beta} for beta in (0.5, 0.3, 0.7))
GRIDS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "grpo": _RATES,
    "length-penalty": tuple({"reward.length_weight": weight} for weight in (0.6, 0.3, 0.9)),
    "grpo-lambda": tuple({"reward.lambda_share": share} for share in (0.2, 0.5, 0.8)),
    "soft-overlong": tuple({"reward.overlong_buffer": buffer} for buffer in (0.2, 0.7, 0.9)),
    "s-grpo": (
        {"method": "s-grpo"},
        {"method": "s-grpo-bare-close"},
        {"method": "s-grpo-bare-close", "grpo.learning_rate": 1e-3},
    ),
    "deer": tuple({"rollout.threshold": threshold} for threshold in (0.995, 0.95, 0.999)),
    "deer-sft": tuple({"distill.learning_rate": rate} for rate in (1e-4, 3e-4, 1e-3)),
    "step-grpo": _BETAS,
    "step-grpo-no-truncation": _BETAS,
    "step-grpo-no-step-reward": _RATES,
    "step-grpo-all-sample-mean": _BETAS,
}
"""What is tried for each method: the recipe's or the paper's setting, then others of what matters most to it.

What is not tried is the recipe's, for all methods: group size, threshold of trial answers, learning rate.
"""

TUNING_SEED = 1000
ACCURACY_SLACK = 0.01
MOST_STEPS = 200
"""So many that the token budget ends every run."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training of a method and its measurement; ``folder`` holds the checkpoint and ``result.json``."""

    method: str
    seed: int
    settings: dict[str, Any]
    split: Split
    questions: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to; shares of checks are NaN where no chain had such a first pass."""

    method: str
    seed: int
    settings: dict[str, Any]
    accuracy: float
    tokens: float
    probe_tokens: float
    steps: float
    redundant_checks: float
    useful_checks: float
    sampled_tokens: float
    seconds: float

    @property
    def decoded_tokens(self) -> float:
        """Mean tokens an answer, those of trial answers included."""
        return self.tokens + self.probe_tokens


def compare_methods(
    recipe: Recipe,
    output: Path,
    on_stage: StageCallback,
    *,
    methods: Sequence[str] = tuple(GRIDS),
    seeds: int = 3,
    trials: int = 3,
    token_budget: int = 400_000,
    trial_budget: int = 125_000,
    questions: int = 1000,
    workers: int = 2,
    base: Path | None = None,
) -> Path:
    """Train, tune and measure every method; what already lies in ``output`` is kept, so an interrupted run goes on.

    Args:
        recipe: of the task; its base is trained unless ``base`` names one.
        output: folder for checkpoints, results, and the tables and plots in ``report``.
        on_stage: told of progress.
        methods: names out of :data:`GRIDS`, or of other methods as a recipe names them.
        seeds: final runs of each method, measured on the test split.
        trials: settings tried for each method on half as many questions of the calibration split, with another seed.
        token_budget: sampled tokens of a final training run, those of trial answers included.
        trial_budget: likewise of a trial.
        questions: held-out questions a measurement.
        workers: runs at a time, each on one thread.
        base: checkpoint to start from.

    Returns:
        The report's folder.

    Raises:
        MethodError: no such method.
        DataError: the recipe's data have no held-out questions.
        TrainingError: ``output`` holds results of another recipe, base, budget or number of questions.
    """
    from training.comparison_report import write_comparison
    from training.pipeline import prepare_base

    grids = {method: grid(method) for method in methods}
    check_held_out(recipe.data)
    start = prepare_base(recipe, output / BASE, on_stage) if base is None else base
    recipe = recipe.overridden({"grpo.token_budget": token_budget, "grpo.steps": MOST_STEPS, "grpo.save_every": 0})
    shorter = recipe.overridden({"grpo.token_budget": trial_budget})
    _check_settings(
        output / "settings.json",
        {
            "recipe": recipe.digest,
            "recipe of trials": shorter.digest,
            "base": _fingerprint(start),
            "questions": str(questions),
        },
    )
    fewer = max(1, questions // 2)
    tuning = [
        Run(method, TUNING_SEED, settings, "calibration", fewer, output / "tuning" / method / str(index))
        for method in methods
        for index, settings in enumerate(grids[method][:trials])
    ]
    tuned = run_all(shorter, start, tuning, workers, on_stage("tuning"))
    best = {method: choose([result for result in tuned if result.method == method]) for method in methods}
    final = [
        Run(method, seed, best[method].settings, "test", questions, output / "final" / method / str(seed))
        for method in methods
        for seed in range(seeds)
    ]
    vanilla = [Run(BASE, seed, {}, "test", questions, output / "final" / BASE / str(seed)) for seed in range(seeds)]
    results = run_all(recipe, start, [*vanilla, *final], workers, on_stage("final runs"))
    report = output / "report"
    write_comparison(report, tuned, results, token_budget=token_budget, trial_budget=trial_budget)
    return report


def grid(method: str) -> tuple[dict[str, Any], ...]:
    """What is tried for a method; for one of one's own, learning rates, or thresholds where nothing is trained.

    Raises:
        MethodError: no such method.
    """
    if method in GRIDS:
        return GRIDS[method]
    from training.methods import AtInference, Distillation, load_method

    match load_method(method):
        case AtInference():
            return GRIDS["deer"]
        case Distillation():
            return GRIDS["deer-sft"]
        case _:
            return GRIDS["grpo"]


def _check_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Results of other settings are never taken for those of these."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(settings), indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    if other := [name for name, value in settings.items() if found.get(name) != value]:
        raise TrainingError(
            f"{path.parent} holds results of another {' and '.join(other)}: give an --output of its own, or the options"
            " that it was begun with"
        )


def _fingerprint(folder: Path) -> str:
    """Hash of a checkpoint's weights."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TrainingError(f"{folder} holds no weights (*.safetensors)")
    weights = hashlib.sha256()
    for path in files:
        weights.update(path.read_bytes())
    return weights.hexdigest()


def choose(trials: Sequence[Result]) -> Result:
    """The trial with the fewest tokens among those at most a point less accurate than the most accurate one."""
    most = max(trial.accuracy for trial in trials)
    return min(
        (trial for trial in trials if trial.accuracy >= most - ACCURACY_SLACK), key=lambda trial: trial.decoded_tokens
    )


def run_all(recipe: Recipe, base: Path, runs: Sequence[Run], workers: int, on_step: Any) -> list[Result]:
    """Carry out the runs, each in a process of its own, and return their results in order."""
    results: dict[Path, Result] = {}
    spawn = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers: two threads on busy cores cost more than they give
    with ProcessPoolExecutor(workers, spawn, initializer=_end_with_parent, max_tasks_per_child=1) as pool:
        pending = {pool.submit(carry_out, recipe, base, run): run for run in runs}
        for future in as_completed(pending):
            if future.exception():
                pool.shutdown(cancel_futures=True)
            results[pending[future].folder] = found = future.result()
            on_step(len(results), len(runs), {"accuracy": found.accuracy, "completion_tokens": found.tokens})
    return [results[run.folder] for run in runs]


def _end_with_parent() -> None:
    """A comparison that is killed leaves no worker behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def carry_out(recipe: Recipe, base: Path, run: Run) -> Result:
    """Train and measure one run, or read its result if it was carried out before."""
    path = run.folder / "result.json"
    if path.exists() and (found := Result(**json.loads(path.read_text()))).settings == run.settings:
        return found
    from training.evaluation import chain_checks, measure
    from training.methods import AtInference, load_method
    from training.pipeline import post_train
    from training.rollout import RolloutPolicy, plain_rollouts
    from training.sampler import Sampling
    from training.step_log import LOG_NAME, read_log

    name = {} if run.method == BASE else {"method": run.method}
    chosen = recipe.overridden({"seed": run.seed, **name, **run.settings})
    started = time.perf_counter()
    method = None if run.method == BASE else load_method(run.method)
    folder = base
    rollouts: RolloutPolicy = plain_rollouts
    if isinstance(method, AtInference):
        rollouts = method.rollouts
    elif method is not None:
        folder = run.folder / "checkpoint"
        post_train(chosen, base, folder, lambda *_: None)
    seconds = time.perf_counter() - started
    sampling = Sampling(recipe.evaluation.temperature, recipe.evaluation.top_p)
    asked = held_out(recipe.data, run.split, recipe.seed, run.questions)
    [measured] = measure(chosen, folder, asked, [sampling], rollouts, seed=run.seed)
    checks = chain_checks(measured)
    log = read_log(folder / LOG_NAME) if folder != base else []
    result = Result(
        method=run.method,
        seed=run.seed,
        settings=run.settings,
        accuracy=float(measured.correct.mean()),
        tokens=fmean(outcome.tokens for outcome in measured.outcomes),
        probe_tokens=fmean(outcome.probe_tokens for outcome in measured.outcomes),
        steps=float(measured.steps.mean()),
        redundant_checks=checks.after_right,
        useful_checks=checks.after_wrong,
        sampled_tokens=sum(line["sampled_tokens"] for line in log),
        seconds=seconds,
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(result), indent=2) + "\n")
    return result
