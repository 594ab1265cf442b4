"""What a run needs in memory and time, before it starts."""

from dataclasses import dataclass

from training.recipe import Recipe

GIB = 2**30
ADAPTED_SHARE = 14.0
"""Adapter parameters a layer, in units of rank x hidden size: both sides of seven linear layers."""
TRAINED_BYTES = 16
"""Of a trained parameter: weight, gradient and two moments, in 32 bits each."""
REFERENCE_BYTES = 4
"""Of a parameter of the KL term's reference, which TRL loads in 32 bits; it is sharded as the model is."""
UTILISATION = 0.35
"""Share of the peak FLOP/s that training reaches."""
DECODING_EFFICIENCY = 0.6
"""Share of the peak bandwidth that decoding reaches."""
MEASUREMENTS = 4
"""Answers to each question of the evaluation: base and tuned, sampled and greedy."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a process runs on: memory in GiB, peak FLOP/s, memory bandwidth in bytes/s.

    On a CPU ``memory`` is unknown: the engine takes ``cache`` GiB beside its weights, PyTorch and vLLM ``programs``.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float | None = None
    cache: float = 0
    programs: float = 0


H100 = Hardware("H100 80 GB", flops=989e12, bandwidth=3.35e12, memory=80)
CPU_CORE = Hardware("CPU core", flops=150e9, bandwidth=20e9, cache=1, programs=1.5)
CPU_PARAMETERS = 10e6
"""Most parameters of a base that is trained from scratch on a CPU."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate for ``devices`` devices of one kind; memory in GiB a device, time in hours.

    It is arithmetic, not a measurement: trust it to a factor of two.
    """

    recipe: str
    parameters: float
    hardware: Hardware
    devices: int
    training: float
    activations: float
    engine: float
    base_hours: float
    rollout_hours: float
    update_hours: float
    evaluation_hours: float

    @property
    def total(self) -> float:
        """Memory of all parts."""
        return self.training + self.activations + self.engine + self.hardware.programs

    @property
    def fits(self) -> bool:
        """Whether a device holds the run, with a tenth to spare."""
        return self.hardware.memory is None or self.total <= 0.9 * self.hardware.memory

    def as_markdown(self) -> str:
        """A table for people."""
        total = f"{self.total:.2f} GiB"
        if self.hardware.memory is not None:
            total = f"{self.total:.2f} of {self.hardware.memory:g} GiB: {'fits' if self.fits else 'does not fit'}"
        memory = {
            "weights, gradients, optimiser": self.training,
            "activations of a micro-batch": self.activations,
            "rollout engine: weights and cache": self.engine,
            "PyTorch and vLLM themselves": self.hardware.programs,
        }
        stages = {
            "supervised training of the base": self.base_hours,
            "rollouts": self.rollout_hours,
            "updates": self.update_hours,
            "evaluation": self.evaluation_hours,
        }
        unit = "GiB" if self.devices == 1 else "GiB a device"
        rows = {
            "parameters": _count(self.parameters),
            **{name: f"{gib:.2f} {unit}" for name, gib in memory.items() if gib},
            "memory in all": total,
            **{name: _time(hours) for name, hours in stages.items() if hours},
            "time in all": _time(sum(stages.values())),
        }
        lines = [
            f"# {self.recipe} on {self.devices} x {self.hardware.name} (estimate)",
            "",
            "| what | needs |",
            "|---|---|",
        ]
        return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items()), ""])


def _count(parameters: float) -> str:
    return f"{parameters / 1e9:.3g} billion" if parameters >= 1e9 else f"{parameters / 1e6:.3g} million"


def _time(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 2 else f"{60 * hours:.1f} minutes"


def estimate(recipe: Recipe, *, devices: int | None = None, hardware: Hardware | None = None) -> Plan:
    """Estimate a run sharded over all devices (FSDP), with an engine on each.

    Completions are taken to reach half their limit, activations to be recomputed where the recipe says so. By default a
    base that is trained from scratch gets a CPU core or, where it is large, one H100, and a checkpoint eight.
    """
    model, settings = recipe.model, recipe.grpo
    parameters = model.parameters or 12.0 * model.layers * model.hidden_size**2
    from_scratch = model.path is None
    if devices is None:
        devices = 1 if from_scratch else 8
    if hardware is None:
        hardware = CPU_CORE if from_scratch and parameters <= CPU_PARAMETERS else H100
    width = 2 if model.dtype == "bfloat16" else 4
    trained = parameters
    if recipe.lora is not None:
        trained = ADAPTED_SHARE * recipe.lora.rank * model.hidden_size * model.layers
    frozen = 0.0 if recipe.lora is None else parameters * width / devices
    state = trained * TRAINED_BYTES / devices
    reference = parameters * REFERENCE_BYTES / devices if settings.kl and recipe.lora is None else 0.0
    length = recipe.rollout.max_prompt_tokens + recipe.rollout.max_completion_tokens
    kept_per_layer = 2 if settings.gradient_checkpointing else 34
    activations = settings.micro_batch * length * model.hidden_size * model.layers * kept_per_layer * width / 2
    samples = settings.prompts * settings.group_size
    mean_tokens = recipe.rollout.max_completion_tokens / 2
    key_value = 2 * model.layers * (model.key_value_size or model.hidden_size // 2) * width
    whole = parameters * width / GIB
    engine = whole + hardware.cache if hardware.memory is None else recipe.rollout.gpu_memory * hardware.memory
    cache = (engine - whole) * GIB
    held = key_value * (recipe.rollout.max_prompt_tokens + mean_tokens / 2)  # bytes of a sequence half way
    batch = max(1.0, min(samples / devices, cache / held))
    step_seconds = (parameters * width + batch * held) / hardware.bandwidth / DECODING_EFFICIENCY
    answer_seconds = mean_tokens * step_seconds / batch / devices
    passes = 3 + settings.gradient_checkpointing + bool(settings.kl) + (settings.updates > 1)
    flops = 2 * parameters * samples * (mean_tokens + recipe.rollout.max_prompt_tokens) * passes
    speed = devices * UTILISATION * hardware.flops
    supervised = 6 * parameters * recipe.sft.batch_tokens * recipe.sft.steps if recipe.sft else 0
    measured = MEASUREMENTS * recipe.evaluation.questions if from_scratch else 0
    return Plan(
        recipe=recipe.name,
        parameters=parameters,
        hardware=hardware,
        devices=devices,
        training=(frozen + state + reference) / GIB,
        activations=activations / GIB,
        engine=engine,
        base_hours=supervised / speed / 3600,
        rollout_hours=settings.steps * samples * answer_seconds / 3600,
        update_hours=settings.steps * flops / speed / 3600,
        evaluation_hours=measured * answer_seconds / 3600,
    )
