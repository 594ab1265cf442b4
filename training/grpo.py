"""Step-GRPO on TRL's ``GRPOTrainer``. The only TRL import of the project: rollouts and rewards know nothing of it."""

import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from reasoning import ExitPolicyConfig
from training.chat import chat_tokens
from training.engine import Engine
from training.grading import grade
from training.problems import problems
from training.progress import StepCallback
from training.recipe import Recipe
from training.rewards import step_aware_relative_reward
from training.rollout import Rollout, plain_rollouts, truncated_rollouts
from training.sampler import Sampling
from training.sync import synchronise

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "TRL currently supports vLLM")  # its own vLLM modes are not used
    from trl import GRPOConfig, GRPOTrainer


def train_step_grpo(recipe: Recipe, base: Path, output: Path, *, seed: int, on_step: StepCallback) -> None:
    """Post-train the checkpoint in ``base`` and write the tuned one to ``output``.

    Args:
        recipe: what to do; its ``rollout`` and ``reward`` sections choose the method or an ablation of it.
        base: checkpoint folder to start from.
        output: folder for weights, tokenizer and ``training_log.jsonl`` (one line a step).
        seed: of data order and sampling.
        on_step: called after every step with its number, the number of steps and its metrics.
    """
    settings = recipe.grpo
    group, batch = settings.group_size, settings.prompts * settings.group_size
    check_batch(settings.prompts, group, settings.updates, settings.micro_batch)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    longest = recipe.rollout.max_completion_tokens + 256
    engine = Engine(base, max_model_len=longest, seed=seed)
    output.mkdir(parents=True, exist_ok=True)
    arguments = GRPOConfig(
        output_dir=str(output),
        seed=seed,
        max_steps=settings.steps * settings.updates,
        num_generations=group,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=batch // settings.updates // settings.micro_batch,
        steps_per_generation=batch // settings.micro_batch,
        max_completion_length=recipe.rollout.max_completion_tokens,
        temperature=recipe.rollout.temperature,
        top_p=recipe.rollout.top_p,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        beta=settings.kl,
        epsilon=settings.clip_low,
        epsilon_high=settings.clip_high,
        loss_type="dapo",
        scale_rewards="group",
        bf16=False,
        save_strategy="no",
        logging_steps=settings.updates,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
    )
    rows = islice(problems("train", seed + 1_000_000), settings.steps * settings.prompts)
    data = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": row.question}], "answer": row.answer} for row in rows]
    )
    log = StepLog(output / "training_log.jsonl", settings.steps, on_step)
    try:
        trainer = GRPOTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
            rollout_func=_rollout_function(recipe, engine, tokenizer, log),
            reward_funcs=_reward_function(recipe, log),
            callbacks=[log],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        synchronise(engine, trainer.model, log.guard_sequences)
    finally:
        engine.close()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def check_batch(prompts: int, group: int, updates: int, micro_batch: int) -> None:
    """Refuse batch sizes that would split a group.

    TRL scores rewards per process and in micro-batches of one generation, so a group that is spread over two of them
    would silently get a wrong baseline.

    Raises:
        ValueError: naming the sizes that do not fit.
    """
    batch = prompts * group
    if batch % updates or (batch // updates) % micro_batch:
        raise ValueError(
            f"{prompts} prompts x {group} completions must split into {updates} updates of whole micro-batches"
            f" of {micro_batch}; change grpo.prompts, grpo.updates or grpo.micro_batch"
        )


@dataclass(slots=True)
class StepLog(TrainerCallback):  # type: ignore[misc]
    """Collects what a rollout did and writes one line a step, with the trainer's own metrics."""

    path: Path
    steps: int
    on_step: StepCallback
    rollout: dict[str, float] = field(default_factory=dict)
    guard_sequences: list[list[int]] = field(default_factory=list)
    step: int = 0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Write the line of the step that ended (the trainer's closing summary has no reward and is left out)."""
        if not logs or "reward" not in logs:
            return
        self.step += 1
        trainer: dict[str, float] = {
            key: logs[key] for key in ("loss", "grad_norm", "reward", "kl", "entropy") if key in logs
        }
        clipped = logs.get("clip_ratio/region_mean", 0.0)
        line = {"step": float(self.step), "clip_ratio": clipped} | trainer | self.rollout
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.on_step(self.step, self.steps, line)


def _rollout_function(
    recipe: Recipe, engine: Engine, tokenizer: PreTrainedTokenizerBase, log: StepLog
) -> Callable[[list[Any], GRPOTrainer], dict[str, Any]]:
    settings = recipe.rollout
    sampling = Sampling(settings.temperature, settings.top_p)
    config = ExitPolicyConfig(
        markers=recipe.markers,
        threshold=settings.threshold,
        max_probes=settings.max_probes,
        probe_tokens=settings.probe_tokens,
        thinking_tokens=int(settings.think_ratio * settings.max_completion_tokens),
        total_tokens=settings.max_completion_tokens,
        exit_margin=settings.exit_margin,
    )

    def rollout(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        difference = synchronise(engine, trainer.model, log.guard_sequences)
        started = time.perf_counter()
        prompt_ids = [chat_tokens(tokenizer, prompt[0]["content"]) for prompt in prompts]
        if settings.truncate:
            rollouts = truncated_rollouts(engine, tokenizer, prompt_ids, config, sampling)
        else:
            rollouts = plain_rollouts(engine, tokenizer, prompt_ids, settings.max_completion_tokens, sampling)
        log.guard_sequences = [p + r.completion_ids for p, r in zip(prompt_ids[:2], rollouts[:2], strict=True)]
        seconds = time.perf_counter() - started
        log.rollout = {"sync_difference": difference, "rollout_seconds": seconds, **summarise(rollouts)}
        output: dict[str, Any] = {
            "prompt_ids": prompt_ids,
            "completion_ids": [rollout.completion_ids for rollout in rollouts],
            "logprobs": None,
            "text": [rollout.text for rollout in rollouts],
            "group": [index // recipe.grpo.group_size for index in range(len(prompts))],
        }
        if settings.mask_forced:
            output["env_mask"] = [rollout.sampled for rollout in rollouts]
        return output

    return rollout


def summarise(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means of one rollout batch: length, exits by reason, trial answers and what they cost."""
    confidences = sorted(value for rollout in rollouts for value in rollout.confidences)
    summary = {
        "completion_tokens": fmean(len(rollout.completion_ids) for rollout in rollouts),
        "probes": fmean(len(rollout.confidences) for rollout in rollouts),
        "probe_tokens": fmean(rollout.probe_tokens for rollout in rollouts),
    }
    for reason in sorted({rollout.exit for rollout in rollouts}):
        summary[f"exit_{reason}"] = fmean(rollout.exit == reason for rollout in rollouts)
    for percent in (10, 50, 90) if confidences else ():
        summary[f"confidence_p{percent}"] = confidences[len(confidences) * percent // 100]
    return summary


def _reward_function(recipe: Recipe, log: StepLog) -> Callable[..., list[float]]:
    def step_aware(
        prompts: object, *, text: list[str], answer: list[str], group: list[int], **_: object
    ) -> list[float]:
        grades = [grade(body, gold, recipe.markers) for body, gold in zip(text, answer, strict=True)]
        correct, steps = [g.correct for g in grades], [g.steps for g in grades]
        log.rollout |= {"accuracy": fmean(correct), "steps": fmean(steps)}
        log.rollout["steps_correct"] = (
            fmean(k for k, right in zip(steps, correct, strict=True) if right) if any(correct) else 0.0
        )
        return step_aware_relative_reward(
            correct=correct,
            steps=steps,
            formatted=[g.formatted for g in grades],
            groups=group,
            alpha=recipe.reward.alpha,
            beta=recipe.reward.beta,
            baseline=recipe.reward.baseline,
        )

    return step_aware
