"""Are trial answers sure exactly when they may be? Accuracy against confidence at every step of sampled traces."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from reasoning import answer_confidence, answers_equal, boxed_answer
from training.chat import chat_text
from training.engines import open_engine
from training.evaluation import Measured, Outcome
from training.recipe import Recipe
from training.sampler import GREEDY, Request, generate


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial answer after step ``step`` of a sampled trace.

    ``justified``: the needed step of a guess-and-check problem was reached, or the chain's steps so far conclude the
    right answer.
    """

    family: str
    step: int
    justified: bool
    confidence: float
    correct: bool


def trial_answers(recipe: Recipe, model: str | Path, measured: Measured) -> list[Trial]:
    """Ask for a greedy trial answer after every step of every measured trace, as the rollout would."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    (start, end), settings = recipe.model.think, recipe.rollout
    opening = "" if recipe.model.thinking_in_prompt else start
    cuts = [(outcome, step) for outcome in measured.outcomes for step in range(1, len(outcome.grade.trace.steps) + 1)]
    engine = open_engine(recipe, model)
    try:
        requests = []
        for outcome, step in cuts:
            prompt = chat_text(tokenizer, outcome.problem.question + recipe.data.suffix)
            thought = opening + _thought(outcome, step)
            context = tokenizer.encode(prompt + thought + settings.answer_prompt, add_special_tokens=False)
            requests.append(Request(context, settings.probe_tokens, GREEDY, (end,), with_logprobs=True))
        completions = generate(engine, requests)
    finally:
        engine.close()
    trials = []
    for (outcome, step), completion in zip(cuts, completions, strict=True):
        found = boxed_answer(settings.answer_prompt + completion.text)
        trials.append(
            Trial(
                family=outcome.problem.family,
                step=step,
                justified=_justified(outcome, step),
                confidence=answer_confidence(
                    completion.logprobs, closed=completion.stop is not None, mean=settings.confidence_mean
                ),
                correct=found is not None and answers_equal(found, outcome.problem.answer),
            )
        )
    return trials


def _thought(outcome: Outcome, step: int) -> str:
    return "".join(part.text for part in outcome.grade.trace.steps[:step]).rstrip("\n")


def _justified(outcome: Outcome, step: int) -> bool:
    if outcome.problem.family != "chain":
        return step >= outcome.problem.needed
    verdict = outcome.grade.trace.steps[step - 1].text
    return verdict.split(", not ")[0].rstrip(". \n").endswith(f" {outcome.problem.answer}")


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """Trials of one kind: how many, mean confidence, accuracy, the share above the threshold and its accuracy."""

    count: int
    confidence: float
    accuracy: float
    accepted: float
    accepted_accuracy: float


def summarise_trials(trials: Sequence[Trial], threshold: float) -> TrialSummary:
    """Aggregate trials; means of an empty set are NaN."""
    accepted = [trial for trial in trials if trial.confidence > threshold]
    return TrialSummary(
        count=len(trials),
        confidence=_mean(trial.confidence for trial in trials),
        accuracy=_mean(trial.correct for trial in trials),
        accepted=len(accepted) / len(trials) if trials else float("nan"),
        accepted_accuracy=_mean(trial.correct for trial in accepted),
    )


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")
