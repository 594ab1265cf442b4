"""``stepgrpo eval --benchmark``: many models on the same benchmarks, as JSON, Markdown and plots."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from reasoning import boxed_answer
from training.answering import Reply, check_prompts, from_checkpoint, from_url, is_url, load_tokenizer
from training.benchmarks import Item, is_right, load_benchmark
from training.calibration import calibration, folder_to_calibrate, stamp
from training.data import GENERATED, SUFFIXES, DataError, file_questions, held_out
from training.engines import check_context
from training.evaluation import difficulty
from training.figures import save_figure
from training.grading import Grade, grade
from training.json_text import json_text
from training.problems import Split
from training.progress import StageCallback, counted
from training.recipe import DataSettings, Recipe
from training.replies import recalled
from training.report import listed, plot_training
from training.sampler import Sampling
from training.saving import clear_disk_errors
from training.scores import Answers, Level, against, all_questions, average_at_k, by_difficulty, pareto_front, pass_at_k
from training.step_log import LOG_NAME, read_log


def evaluate_models(
    recipe: Recipe,
    models: Sequence[str],
    benchmarks: Sequence[str],
    output: Path,
    on_stage: StageCallback,
    *,
    samples: int = 1,
    folder: Path | None = None,
    split: Split = "test",
    calibrate: bool = False,
) -> Path:
    """Ask every model every question ``samples`` times and write the report; the first model is the reference.

    Replies are kept in ``output`` until the report is there: an evaluation that was cut short goes on with them.

    Args:
        recipe: its markers, tags, token limit and evaluation sampling.
        models: checkpoints, hub names, or base URLs of servers (``http...``).
        benchmarks: names of :mod:`training.benchmarks`, generated word problems, or files with the recipe's columns.
        output: folder of the report.
        on_stage: told of progress.
        samples: answers a question.
        folder: of the benchmarks' files; the hub by default.
        split: of the word problems.
        calibrate: stamp the card of the second of two models with what it saves against the first.

    Raises:
        DataError: a benchmark or file that cannot be read, or that the recipe trains on.
        TrainingError: no such checkpoint, answers or questions that are too long for one, a server that does not
            answer, models that cannot be calibrated, or a full disk.
    """
    stamped = folder_to_calibrate(recipe, models) if calibrate else None
    sampling = Sampling(recipe.evaluation.temperature, recipe.evaluation.top_p)
    found: list[Answers] = []
    kept = output / "replies"
    # What is wrong with the last model or benchmark is not found out after hours of those before.
    tokenizers = {model: load_tokenizer(model) for model in models if not is_url(model)}
    for model in tokenizers:
        check_context(recipe, model)
    items = {name: _items(recipe, name, folder, split) for name in benchmarks}
    for tokenizer in tokenizers.values():
        check_prompts(recipe, tokenizer, [item.question for those in items.values() for item in those])
    for model in models:
        on_reply = counted(on_stage(model), sum(map(len, items.values())) * samples)
        for name in items:
            questions = [item.question for item in items[name]]
            ask = partial(from_url if is_url(model) else from_checkpoint, recipe, model, sampling)
            replies = recalled(kept, recipe, model, questions, samples, ask, on_reply)
            found.append(score(recipe, model, name, items[name], replies))
    with clear_disk_errors(output, "give the same command again: it asks nothing anew"):
        write_benchmarks(output, recipe, sorted(found, key=lambda one: list(items).index(one.benchmark)))
    if stamped is not None:
        base, tuned = (all_questions([one for one in found if one.model == model]) for model in models)
        with clear_disk_errors(stamped, "give the same command again: it asks nothing anew"):
            stamp(stamped, calibration(", ".join(Path(name).name for name in items), sampling, base, tuned))
    shutil.rmtree(kept)
    return output


def _items(recipe: Recipe, name: str, folder: Path | None, split: Split) -> list[Item]:
    if name in GENERATED:
        problems = held_out(DataSettings(name=name), split, recipe.seed, recipe.evaluation.questions)
        return [Item(problem.question, problem.answer, difficulty(problem)) for problem in problems]
    if Path(name).suffix not in SUFFIXES:
        return load_benchmark(name, folder)
    if Path(name).resolve() == Path(recipe.data.name).resolve():
        raise DataError(f"{name} is what the recipe {recipe.name} trains on; hold rows out in a file of their own")
    return [Item(row.question, row.answer) for row in file_questions(recipe.data, name)]


def score(
    recipe: Recipe, model: str, benchmark: str, items: Sequence[Item], replies: Sequence[Sequence[Reply]]
) -> Answers:
    """Grade replies; an answer is right if it equals the reference as mathematics or as text."""
    graded = [
        [_grade(recipe, item, reply, _begins_inside(recipe, model, reply)) for reply in row]
        for item, row in zip(items, replies, strict=True)
    ]
    return Answers(
        model=model,
        benchmark=benchmark,
        correct=np.array([[float(right) for right, _ in row] for row in graded]),
        tokens=np.array([[float(reply.tokens) for reply in row] for row in replies]),
        steps=np.array([[float(found.steps) for _, found in row] for row in graded]),
        difficulty=tuple(item.difficulty for item in items),
        exits=tuple(tuple(found.trace.exit.reason for _, found in row) for row in graded),
        exit_steps=np.array([[found.trace.exit.step for _, found in row] for row in graded]),
    )


def _begins_inside(recipe: Recipe, model: str, reply: Reply) -> bool:
    """Whether a reply begins in a thinking block that its prompt opened; a server may have left the block out."""
    start, end = recipe.model.think
    if not recipe.model.thinking_in_prompt or reply.text.lstrip().startswith(start):
        return False
    return not is_url(model) or end in reply.text or reply.finish_reason == "length"


def _grade(recipe: Recipe, item: Item, reply: Reply, inside: bool) -> tuple[bool, Grade]:
    found = grade(
        reply.text,
        item.answer,
        recipe.markers,
        finish_reason=reply.finish_reason,
        think=recipe.model.think,
        inside=inside,
    )
    boxed = boxed_answer(found.trace.answer)
    return found.correct or (boxed is not None and is_right(boxed, item)), found


def write_benchmarks(folder: Path, recipe: Recipe, found: Sequence[Answers]) -> None:
    """Write ``benchmarks.json``, ``report.md`` and the plots; training curves of the folders that hold a log."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = {one.benchmark: one for one in reversed(found)}
    summaries = [_summary(recipe, one, reference[one.benchmark]) for one in found]
    (folder / "benchmarks.json").write_text(json_text(summaries))
    (folder / "report.md").write_text(_as_markdown(recipe, summaries))
    names = plot_names([one.model for one in found])
    _plot_front(folder / "pareto.png", found, names)
    _plot_exits(folder / "exits.png", found, names)
    _plot_difficulty(folder / "difficulty.png", found, names)
    logs = {name: lines for model, name in names.items() if (lines := read_log(Path(model) / LOG_NAME))}
    if logs:
        plot_training(folder / "training.png", logs)


def plot_names(models: Sequence[str]) -> dict[str, str]:
    """A server's address, and of a path as many of its last parts as it takes to tell all apart."""
    distinct = dict.fromkeys(models)
    for depth in range(1, 1 + max(len(Path(model).parts) for model in distinct)):
        names = {model: model if is_url(model) else "/".join(Path(model).parts[-depth:]) for model in distinct}
        if len(set(names.values())) == len(distinct):
            break
    return names


def _summary(recipe: Recipe, one: Answers, reference: Answers) -> dict[str, Any]:
    return {
        "model": one.model,
        "benchmark": one.benchmark,
        "questions": len(one.correct),
        "samples": one.samples,
        "sampling": {"temperature": recipe.evaluation.temperature, "top_p": recipe.evaluation.top_p},
        "max_tokens": recipe.rollout.max_completion_tokens,
        "accuracy": average_at_k(one),
        "pass": {k: pass_at_k(one, k) for k in (1, 2, 4, 8, 16, 32) if k <= one.samples},
        "tokens": float(one.tokens.mean()),
        "steps": float(one.steps.mean()),
        "exits": one.exit_shares,
        "difficulty": {name: asdict(level) for name, level in _levels(one).items()},
        "against_reference": asdict(against(reference, one)) if one is not reference else None,
    }


def _levels(one: Answers) -> dict[str, Level]:
    return by_difficulty(one, one.difficulty)


def _as_markdown(recipe: Recipe, summaries: Sequence[dict[str, Any]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Plain decoding, recipe {recipe.name}: temperature {recipe.evaluation.temperature:g}, top-p"
        f" {recipe.evaluation.top_p:g}, at most {recipe.rollout.max_completion_tokens:,} tokens."
        " Intervals: paired bootstrap over questions (95 %) against the first model.",
        "",
        "| benchmark | model | questions x samples | accuracy (avg@k) | pass@k | tokens | steps | thinking ended by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in summaries:
        passed = ", ".join(f"{share:.1%} @{k}" for k, share in one["pass"].items())
        lines.append(
            f"| {one['benchmark']} | {one['model']} | {one['questions']} x {one['samples']} | {one['accuracy']:.1%}"
            f" | {passed} | {one['tokens']:.1f} | {one['steps']:.2f} | {listed(one['exits'])} |"
        )
    if compared := [one for one in summaries if one["against_reference"]]:
        lines += ["", "| benchmark | model | accuracy difference | compression rate | efficiency score |"]
        lines += ["|---|---|---|---|---|"]
    for one in compared:
        keys = ("accuracy_difference", "compression_rate", "efficiency_score")
        cells = " | ".join(_cell(one["against_reference"][key]) for key in keys)
        lines.append(f"| {one['benchmark']} | {one['model']} | {cells} |")
    lines += ["", "| benchmark | model | difficulty | questions | accuracy | tokens | steps |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in summaries:
        for name, level in one["difficulty"].items():
            lines.append(
                f"| {one['benchmark']} | {one['model']} | {name or 'all'} | {level['questions']}"
                f" | {level['accuracy']:.1%} | {level['tokens']:.1f} | {level['steps']:.2f} |"
            )
    return "\n".join([*lines, ""])


def _cell(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _plot_front(path: Path, found: Sequence[Answers], names: Mapping[str, str]) -> None:
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for benchmark in dict.fromkeys(one.benchmark for one in found):
        those = [one for one in found if one.benchmark == benchmark]
        points = [(average_at_k(one), float(one.tokens.mean())) for one in those]
        [line] = axis.plot([t for _, t in points], [a for a, _ in points], "o", label=Path(benchmark).name)
        front = sorted((t, a) for (a, t), best in zip(points, pareto_front(points), strict=True) if best)
        axis.plot(*zip(*front, strict=True), linestyle="--", linewidth=1, color=line.get_color())
        for one, (accuracy, tokens) in zip(those, points, strict=True):
            axis.annotate(names[one.model], (tokens, accuracy), (4, 4), textcoords="offset points", fontsize=8)
    axis.set(xlabel="tokens an answer", ylabel="accuracy")
    axis.legend(frameon=False)
    save_figure(figure, path)


def _plot_exits(path: Path, found: Sequence[Answers], names: Mapping[str, str]) -> None:
    benchmarks = list(dict.fromkeys(one.benchmark for one in found))
    size = (8, 1 + 2.5 * len(benchmarks))
    figure, axes = plt.subplots(len(benchmarks), figsize=size, layout="constrained", squeeze=False, sharex=True)
    most = int(min(20, max(one.exit_steps.max() for one in found)))
    for benchmark, axis in zip(benchmarks, axes.flat, strict=True):
        for one in (each for each in found if each.benchmark == benchmark):
            counts = np.bincount(np.minimum(one.exit_steps.ravel(), most), minlength=most + 1)
            axis.step(range(most + 1), counts / counts.sum(), where="mid", label=names[one.model])
        axis.set(title=Path(benchmark).name, ylabel="share of answers")
    axes[-1, 0].set_xlabel(f"step at which thinking ended (0: none; {most}: or later)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    save_figure(figure, path)


def _plot_difficulty(path: Path, found: Sequence[Answers], names: Mapping[str, str]) -> None:
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    for one in found:
        levels = _levels(one)
        places = [f"{Path(one.benchmark).name} {label}".strip() for label in levels]
        label = names[one.model] if one.benchmark == found[0].benchmark else None
        colour = f"C{list(names).index(one.model)}"
        axis.plot(places, [level.tokens for level in levels.values()], "o-", color=colour, label=label)
    axis.set(ylabel="tokens an answer", ylim=(0, None))
    plt.setp(axis.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    figure.legend(loc="outside right upper", frameon=False)
    save_figure(figure, path)
