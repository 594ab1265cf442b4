"""``stepgrpo eval --benchmark``: many models on the same benchmarks, as JSON, Markdown and plots."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from reasoning import boxed_answer
from training.answering import Reply, from_checkpoint, from_url
from training.benchmarks import Item, load_benchmark, same_text
from training.grading import grade
from training.progress import StageCallback
from training.recipe import Recipe
from training.sampler import Sampling
from training.scores import Answers, against, average_at_k, by_difficulty, pareto_front, pass_at_k


def evaluate_models(
    recipe: Recipe,
    models: Sequence[str],
    benchmarks: Sequence[str],
    output: Path,
    on_stage: StageCallback,
    *,
    samples: int = 1,
    folder: Path | None = None,
) -> Path:
    """Ask every model every question ``samples`` times and write the report; the first model is the reference.

    Args:
        recipe: its markers, tags, token limit and evaluation sampling.
        models: checkpoints, hub names, or base URLs of servers (``http...``).
        benchmarks: names of :mod:`training.benchmarks`.
        output: folder of the report.
        on_stage: told of progress.
        samples: answers a question.
        folder: of the benchmarks' files; the hub by default.
    """
    sampling = Sampling(recipe.evaluation.temperature, recipe.evaluation.top_p)
    found: list[Answers] = []
    items = {name: load_benchmark(name, folder) for name in benchmarks}
    for model in models:
        done = on_stage(model)
        for index, name in enumerate(benchmarks, start=1):
            ask = from_url if model.startswith(("http://", "https://")) else from_checkpoint
            replies = ask(recipe, model, [item.question for item in items[name]], sampling, samples)
            found.append(score(recipe, model, name, items[name], replies))
            done(index, len(benchmarks), {"accuracy": average_at_k(found[-1])})
    write_benchmarks(output, found)
    return output


def score(
    recipe: Recipe, model: str, benchmark: str, items: Sequence[Item], replies: Sequence[Sequence[Reply]]
) -> Answers:
    """Grade replies; an answer is right if it equals the reference as mathematics or as text."""
    graded = [[_grade(recipe, item, reply) for reply in row] for item, row in zip(items, replies, strict=True)]
    return Answers(
        model=model,
        benchmark=benchmark,
        correct=np.array([[float(right) for right, _, _ in row] for row in graded]),
        tokens=np.array([[float(reply.tokens) for reply in row] for row in replies]),
        steps=np.array([[float(steps) for _, steps, _ in row] for row in graded]),
        difficulty=tuple(item.difficulty for item in items),
        exits=tuple(tuple(reason for _, _, reason in row) for row in graded),
    )


def _grade(recipe: Recipe, item: Item, reply: Reply) -> tuple[bool, int, str]:
    start = recipe.model.think[0]
    inside = recipe.model.thinking_in_prompt and not reply.text.lstrip().startswith(start)
    found = grade(
        reply.text,
        item.answer,
        recipe.markers,
        finish_reason=reply.finish_reason,
        think=recipe.model.think,
        inside=inside,
    )
    boxed = boxed_answer(found.trace.answer)
    right = found.correct or (boxed is not None and same_text(boxed, item.answer))
    return right, found.steps, found.trace.exit.reason


def write_benchmarks(folder: Path, found: Sequence[Answers]) -> None:
    """Write ``benchmarks.json``, ``report.md`` and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = {one.benchmark: one for one in reversed(found)}
    summaries = [_summary(one, reference[one.benchmark]) for one in found]
    (folder / "benchmarks.json").write_text(json.dumps(summaries, indent=2) + "\n")
    (folder / "report.md").write_text(_as_markdown(summaries))
    _plot_front(folder / "pareto.png", found)
    _plot_exits(folder / "exits.png", found)
    _plot_difficulty(folder / "difficulty.png", found)


def _summary(one: Answers, reference: Answers) -> dict[str, Any]:
    return {
        "model": one.model,
        "benchmark": one.benchmark,
        "questions": len(one.correct),
        "samples": one.samples,
        "accuracy": average_at_k(one),
        "pass": {k: pass_at_k(one, k) for k in (1, 2, 4, 8, 16, 32) if k <= one.samples},
        "tokens": float(one.tokens.mean()),
        "steps": float(one.steps.mean()),
        "exits": one.exit_shares,
        "difficulty": by_difficulty(one),
        "against_reference": asdict(against(reference, one)) if one is not reference else None,
    }


def _as_markdown(summaries: Sequence[dict[str, Any]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Plain decoding. Intervals: paired bootstrap over questions (95 %) against the first model.",
        "",
        "| benchmark | model | questions x samples | accuracy (avg@k) | pass@k | tokens | steps | accuracy difference"
        " | compression rate | efficiency score |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in summaries:
        most = max(one["pass"])
        compared = one["against_reference"] or {}
        lines.append(
            f"| {one['benchmark']} | {one['model']} | {one['questions']} x {one['samples']} | {one['accuracy']:.1%}"
            f" | {one['pass'][most]:.1%} @{most} | {one['tokens']:.1f} | {one['steps']:.2f}"
            f" | {_cell(compared.get('accuracy_difference'))} | {_cell(compared.get('compression_rate'))}"
            f" | {_cell(compared.get('efficiency_score'))} |"
        )
    lines += ["", "| benchmark | model | difficulty | questions | accuracy | tokens |", "|---|---|---|---|---|---|"]
    for one in summaries:
        for label, (count, accuracy, tokens) in one["difficulty"].items():
            lines.append(
                f"| {one['benchmark']} | {one['model']} | {label or 'all'} | {count} | {accuracy:.1%} | {tokens:.1f} |"
            )
    return "\n".join([*lines, ""])


def _cell(interval: dict[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _plot_front(path: Path, found: Sequence[Answers]) -> None:
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for benchmark in dict.fromkeys(one.benchmark for one in found):
        those = [one for one in found if one.benchmark == benchmark]
        points = [(average_at_k(one), float(one.tokens.mean())) for one in those]
        [line] = axis.plot([t for _, t in points], [a for a, _ in points], "o", label=benchmark)
        front = sorted((t, a) for (a, t), best in zip(points, pareto_front(points), strict=True) if best)
        axis.plot(*zip(*front, strict=True), linestyle="--", linewidth=1, color=line.get_color())
        for one, (accuracy, tokens) in zip(those, points, strict=True):
            axis.annotate(Path(one.model).name, (tokens, accuracy), (4, 4), textcoords="offset points", fontsize=8)
    axis.set(xlabel="tokens an answer", ylabel="accuracy")
    axis.legend(frameon=False)
    _save(figure, path)


def _plot_exits(path: Path, found: Sequence[Answers]) -> None:
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    most = int(min(20, max(one.steps.max() for one in found)))
    for one in found:
        counts = np.bincount(np.minimum(one.steps.ravel(), most).astype(int), minlength=most + 1)
        shares, label = counts / counts.sum(), f"{Path(one.model).name}, {one.benchmark}"
        axis.step(range(most + 1), shares, where="mid", label=label)
    axis.set(xlabel=f"steps until the exit ({most} and more)", ylabel="share of answers")
    axis.legend(frameon=False)
    _save(figure, path)


def _plot_difficulty(path: Path, found: Sequence[Answers]) -> None:
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for one in found:
        levels = by_difficulty(one)
        names = [f"{one.benchmark} {label}".strip() for label in levels]
        axis.plot(names, [tokens for _, _, tokens in levels.values()], "o-", label=Path(one.model).name)
    axis.set(ylabel="tokens an answer")
    axis.tick_params(axis="x", rotation=60)
    axis.legend(frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
