"""Group-based policy optimisation on TRL's ``GRPOTrainer``. The only TRL import of the project."""

import os
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

from training.chat import chat_tokens
from training.checkpoint import save_checkpoint
from training.data import take_questions
from training.engines import open_engine
from training.errors import TrainingError
from training.experience import Experience, fits_prompt, step_rng
from training.launch import check_batch
from training.methods import PolicyGradient
from training.packing import pack, take_rows
from training.progress import StepCallback
from training.pruning import draw_survivors
from training.recipe import PruningSettings, Recipe
from training.resume import CHECKPOINTS, MarkComplete, prepare, step_of
from training.rollout import plain_rollouts
from training.sampler import Request, Sampler, Sampling, generate
from training.saving import clear_disk_errors
from training.sharding import shard_layers
from training.step_log import LOG_NAME, StepLog
from training.sync import whole_weights
from training.trackers import tensorboard_in

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # of rollout_func: the pinned minor is tested here
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "TRL currently supports vLLM")  # its own vLLM modes are not used
    from trl import GRPOConfig, GRPOTrainer

TENSORBOARD = "tensorboard"


class Trainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, with packed micro-batches, pruning and measures of the forced tokens.

    Args:
        experience: what it learns from.
        pruning: leave out completions with little signal; None trains on all.
        budget_left: share of the token budget that is not used up, where a falling learning rate ends with it.
        options: of ``GRPOTrainer``.
    """

    def __init__(
        self,
        experience: Experience,
        pruning: PruningSettings | None,
        budget_left: Callable[[], float],
        **options: Any,
    ) -> None:
        self.experience, self.pruning, self.budget_left = experience, pruning, budget_left
        self._latest_logps: torch.Tensor | None = None
        self._logprob_seconds = 0.0
        self._buffered_inputs: Any = None
        super().__init__(rollout_func=_sample, reward_funcs=self._reward, **options)

    @property
    def ref_model(self) -> Any:
        """The reference of the KL term, where there is one."""
        return self._reference

    @ref_model.setter
    def ref_model(self, model: Any) -> None:
        self._reference = model
        if model is not None and self.is_fsdp_enabled:
            shard_layers(model, self.accelerator)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning rate's schedule; one that falls ends with the steps or the token budget, whichever is first."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if self.args.lr_scheduler_type == "linear":
            (by_steps,) = set(scheduler.lr_lambdas)
            scheduler.lr_lambdas = [lambda step: min(by_steps(step), self.budget_left())] * len(scheduler.lr_lambdas)
        return scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Both as the checkpoint has them, but for a learning rate that is now another."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        scheduler: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
        change = self.args.learning_rate / (scheduler.base_lrs[0] or 1)
        scheduler.base_lrs = [self.args.learning_rate] * len(scheduler.base_lrs)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = self.args.learning_rate
            group["lr"] *= change

    def _reward(
        self, prompts: object, *, text: list[str], answer: list[str], group: list[int], **fields: Any
    ) -> list[float]:
        return self.experience.rewards(text, answer, group, fields["log_metric"])

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self._logprob_seconds = 0.0
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask = output["completion_mask"]
        forced = torch.zeros_like(mask)
        for row, rollout in enumerate(self.experience.rollouts):
            forced[row, : len(rollout.sampled)] = 1 - torch.tensor(rollout.sampled)
        output["forced"] = forced * mask
        return output

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        turn = self._step % self.args.steps_per_generation
        if turn == 0 or self._buffered_inputs is None:
            self._buffered_inputs = self._packed(self._generate_and_score_completions(generation_batch))
            masks = [batch["tool_mask"] for batch in self._buffered_inputs]
            tokens, cells = sum(int((mask > 0).sum()) for mask in masks), sum(mask.numel() for mask in masks)
            figures = self._over_processes(tokens, cells, self._logprob_seconds / self.accelerator.num_processes)
            for name, figure in zip(("trained_tokens", "trained_cells", "logprob_seconds"), figures, strict=True):
                self._metrics["train"][name].append(figure)
        inputs: dict[str, Any] = self._buffered_inputs[turn]
        return inputs

    def _packed(self, whole: dict[str, Any]) -> list[dict[str, Any]]:
        """Micro-batches of rows of like length; the weights of pruning go into the loss's mask.

        The loss is a sum over tokens with one normaliser for all, so it does not depend on how rows are spread. TRL
        gathers a figure for each row, so a micro-batch has as many rows on one process as on the others.
        """
        mask = whole["completion_mask"] * whole.pop("tool_mask", 1)
        kept, weights = torch.arange(len(mask)), torch.ones(len(mask))
        if self.pruning is not None:
            kept, weights = draw_survivors(whole["advantages"], self.num_generations, self.pruning)
        scale = torch.zeros(len(mask), device=mask.device)
        scale[kept] = weights.to(mask.device)
        whole["tool_mask"] = mask * scale[:, None]
        updates = self.args.steps_per_generation // self.args.gradient_accumulation_steps
        shuffled = kept[torch.randperm(len(kept))].tolist()
        lengths = (whole["prompt_mask"].sum(1) + whole["completion_mask"].sum(1)).tolist()
        packed = []
        for part in (shuffled[update::updates] for update in range(updates)):
            for rows in pack([lengths[row] for row in part], self.args.gradient_accumulation_steps):
                packed.append([part[row] for row in rows])
        counts = torch.tensor([max(1, len(rows)) for rows in packed], device=mask.device)
        sizes = self.accelerator.gather(counts).view(-1, len(packed)).amax(0).tolist()
        return [take_rows(whole, rows, size) for rows, size in zip(packed, sizes, strict=True)]

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        found = super()._get_per_token_logps_and_entropies(*arguments, **options)
        if not torch.is_grad_enabled():  # of the old policy or the reference, before the updates
            self._logprob_seconds += time.perf_counter() - started
        self._latest_logps = found[0].detach()
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        old, logps = inputs.get("old_per_token_logps"), self._latest_logps
        forced = inputs["forced"] * (inputs["tool_mask"] > 0)
        first_update = self._step % self.args.steps_per_generation < self.args.gradient_accumulation_steps
        if old is not None and logps is not None and not first_update:
            ratio, gain = (logps - old).exp(), inputs["advantages"][:, None]
            clipped = (ratio > 1 + self.epsilon_high) & (gain > 0) | (ratio < 1 - self.epsilon_low) & (gain < 0)
            affected, all_forced = self._over_processes((clipped * forced).sum().item(), forced.sum().item())
            if all_forced:
                self._metrics["train"]["clip_ratio_forced"].append(affected / all_forced)
        return loss

    def _over_processes(self, *values: float) -> list[float]:
        """Sums over all processes."""
        local = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        total: list[float] = self.accelerator.reduce(local, reduction="sum").tolist()
        return total


def _sample(prompts: list[Any], trainer: Trainer) -> dict[str, Any]:
    model = trainer.model
    rows = [prompt[0]["content"] for prompt in prompts]
    rank = trainer.accelerator.process_index
    return {"logprobs": None} | trainer.experience.sample(rows, model, step=trainer.state.global_step, rank=rank)


def train_policy(
    recipe: Recipe,
    method: PolicyGradient,
    base: str | Path,
    output: Path,
    *,
    on_step: StepCallback,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
    engine: Sampler | None = None,
) -> None:
    """Post-train the checkpoint in ``base`` and write the tuned one to ``output``.

    Args:
        recipe: what to do.
        method: its rollouts and rewards.
        base: checkpoint to start from (folder or hub name).
        output: folder for weights, tokenizer, card and ``training_log.jsonl`` (one line a step).
        on_step: called after every step with its number, the number of steps and its metrics.
        resume: go on from the last whole checkpoint of this run, with the recipe's learning rate.
        callbacks: more of the trainer's.
        engine: samples the rollouts, and stays open; one of the run's own by default.

    Raises:
        TrainingError: the run cannot go on.
    """
    settings, state = recipe.grpo, PartialState()
    check_batch(
        settings.prompts, settings.group_size, settings.updates, settings.micro_batch, processes=state.num_processes
    )
    output.mkdir(parents=True, exist_ok=True)
    checkpoints = output / CHECKPOINTS
    with state.main_process_first():
        started_from = prepare(checkpoints, recipe.resumable_digest, resume=resume or not state.is_main_process)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=trained_dtype(recipe))
    sampler = engine or open_engine(recipe, base, seed=recipe.seed)
    done = step_of(started_from) // settings.updates if started_from else 0
    log = StepLog(
        output / LOG_NAME,
        settings.steps,
        settings.updates,
        on_step,
        token_budget=settings.token_budget,
        resumed_step=done,
    )
    steps = settings.steps if log.budget_left() else done  # one that used up its tokens was about to be saved
    data = _questions(recipe, tokenizer, steps)
    try:
        with tensorboard_in(output / TENSORBOARD):
            trainer = Trainer(
                Experience(recipe, method, sampler, tokenizer, processes=state.num_processes),
                recipe.pruning,
                log.budget_left,
                model=model,
                args=_arguments(recipe, method, checkpoints, processes=state.num_processes, steps=steps),
                train_dataset=data,
                processing_class=tokenizer,
                peft_config=_lora(recipe),
                callbacks=[log, MarkComplete(), *callbacks],
            )
        trainer.remove_callback(PrinterCallback)
        with clear_disk_errors(output):
            trainer.train(resume_from_checkpoint=str(started_from) if started_from else None)
            trainer.experience.synchronise(trainer.model)
            _save(trainer, tokenizer, output, recipe)
    finally:
        if engine is None:
            sampler.close()
    if state.is_main_process:
        shutil.rmtree(checkpoints, ignore_errors=True)


def train_stock(recipe: Recipe, base: Path, engine: Sampler, callbacks: Sequence[Any]) -> None:
    """For comparison only: TRL's own trainer with plain rollouts on ``engine``, draws and questions as in ours.

    Weights are synchronised as ours are, without the guard; nothing is saved.
    """
    tokenizer = AutoTokenizer.from_pretrained(base)
    rollout = recipe.rollout
    sampling = Sampling(rollout.temperature, rollout.top_p)

    def sample(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        engine.load_weights(trainer.model.state_dict())
        ids = [chat_tokens(tokenizer, prompt[0]["content"]) for prompt in prompts]
        with torch.random.fork_rng():
            torch.manual_seed(step_rng(recipe.seed, trainer.state.global_step, 0).getrandbits(62))
            found = generate(engine, [Request(one, rollout.max_completion_tokens, sampling) for one in ids])
        return {"prompt_ids": ids, "completion_ids": [list(one.tokens) for one in found], "logprobs": None}

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        return [float(gold in one[0]["content"]) for one, gold in zip(completions, answer, strict=True)]

    with TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=trained_dtype(recipe)),
            args=_arguments(
                recipe,
                PolicyGradient(plain_rollouts, lambda batch, _: []),
                Path(folder),
                processes=1,
                steps=recipe.grpo.steps,
            ),
            train_dataset=_questions(recipe, tokenizer, recipe.grpo.steps),
            processing_class=tokenizer,
            rollout_func=sample,
            reward_funcs=reward,
            callbacks=list(callbacks),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def trained_dtype(recipe: Recipe) -> torch.dtype:
    """Precision of the weights while they are trained; ``model.dtype`` is that of the computation and the checkpoint.

    Steps of a small learning rate vanish in 16-bit weights. What adapters leave frozen may stay in 16 bits.
    """
    return torch.float32 if recipe.lora is None else getattr(torch, recipe.model.dtype)


def _questions(recipe: Recipe, tokenizer: Any, steps: int) -> Dataset:
    """As many as so many steps ask, in TRL's form."""
    wanted = steps * recipe.grpo.prompts
    rows = take_questions(recipe.data, recipe.seed + 1_000_000, wanted, fits_prompt(tokenizer, recipe))
    if len(rows) < wanted:
        raise TrainingError(f"{recipe.data.name} has {len(rows)} questions, grpo.steps x grpo.prompts needs more")
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": row.question}], "answer": row.answer} for row in rows]
    )


def _arguments(recipe: Recipe, method: PolicyGradient, folder: Path, *, processes: int, steps: int) -> GRPOConfig:
    settings = recipe.grpo
    batch = settings.prompts * settings.group_size // processes
    return GRPOConfig(
        output_dir=str(folder),
        seed=recipe.seed,
        max_steps=steps * settings.updates,
        num_generations=settings.group_size,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=batch // settings.updates // settings.micro_batch,
        steps_per_generation=batch // settings.micro_batch,
        max_completion_length=recipe.rollout.max_completion_tokens,
        temperature=recipe.rollout.temperature,
        top_p=recipe.rollout.top_p,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        weight_decay=settings.weight_decay,
        beta=settings.kl,
        use_bias_correction_kl=False,
        epsilon=settings.clip_low,
        epsilon_high=settings.clip_high,
        delta=settings.dual_clip,
        loss_type="dapo",
        scale_rewards="group" if method.scale_advantages else "none",
        bf16=recipe.model.dtype == "bfloat16",
        save_strategy="steps" if settings.save_every else "no",
        save_steps=max(1, settings.save_every) * settings.updates,
        save_total_limit=2,
        logging_steps=settings.updates,
        logging_nan_inf_filter=False,
        report_to=list(settings.report_to) or "none",
        run_name=f"{recipe.name}, {recipe.method}, seed {recipe.seed}",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=settings.gradient_checkpointing,
    )


def _lora(recipe: Recipe) -> Any:
    if recipe.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _save(trainer: Trainer, tokenizer: Any, output: Path, recipe: Recipe) -> None:
    """Write the trained weights, adapters merged; all processes help to gather them, the main one keeps them."""
    bare, main = trainer.accelerator.unwrap_model(trainer.model), trainer.accelerator.is_main_process
    dtype = getattr(torch, recipe.model.dtype)
    copies = {name: tensor.to("cpu", dtype, copy=True) for name, tensor in whole_weights(bare).items() if main}
    if main:
        model = bare.get_base_model() if hasattr(bare, "get_base_model") else bare
        for name in model.all_tied_weights_keys:  # one copy of what the model holds once
            copies.pop(name, None)
        model.config.use_cache = True

        def write(folder: Path) -> None:
            model.save_pretrained(folder, state_dict=copies)
            model.config.dtype = dtype  # not that of the weights while they were trained
            model.config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        save_checkpoint(output, write, recipe, recipe.method)
    trainer.accelerator.wait_for_everyone()
