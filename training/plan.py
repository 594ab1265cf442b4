"""What a run needs in memory and time, before it starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.errors import TrainingError
from training.recipe import ModelSettings, Recipe

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
UNCOUNTED = "Not counted: logits (completion tokens x vocabulary, several times) and the engine's CUDA graphs."
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


HardwareName = Literal["cpu", "rtx-4090", "l40s", "a100", "h100", "h200"]
HARDWARE: Mapping[HardwareName, Hardware] = {
    "cpu": Hardware("CPU core", flops=150e9, bandwidth=20e9, cache=1, programs=1.5),
    "rtx-4090": Hardware("RTX 4090 24 GB", flops=165e12, bandwidth=1.01e12, memory=24),
    "l40s": Hardware("L40S 48 GB", flops=362e12, bandwidth=0.864e12, memory=45),
    "a100": Hardware("A100 80 GB", flops=312e12, bandwidth=2.04e12, memory=80),
    "h100": Hardware("H100 80 GB", flops=989e12, bandwidth=3.35e12, memory=80),
    "h200": Hardware("H200 141 GB", flops=989e12, bandwidth=4.8e12, memory=140),
}
"""By name; of GPUs the vendor's dense 16-bit FLOP/s, bandwidth, and what of the memory programs can use."""
CPU_PARAMETERS = 10e6
"""Most parameters of a model that is trained on a CPU unless hardware is named."""
SIZES = ("parameters", "layers", "hidden_size", "key_value_size")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a model: all parameters, layers, hidden size, and key-value heads times head dimension."""

    parameters: float
    layers: int
    hidden_size: int
    key_value_size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate for ``devices`` devices of one kind; memory in GiB a device, time in hours.

    ``least_engine`` is what the engine needs for the whole model and one sequence. It is arithmetic, not a measurement:
    trust it to a factor of two.
    """

    recipe: str
    parameters: float
    hardware: Hardware
    devices: int
    training: float
    activations: float
    engine: float
    least_engine: float
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
        """Whether a device holds the run, with a tenth to spare, and its engine the whole model."""
        return self.hardware.memory is None or (
            self.total <= 0.9 * self.hardware.memory and self.least_engine <= self.engine
        )

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
        needs = {name: f"{gib:.2f} {unit}" for name, gib in memory.items() if gib}
        if self.engine < self.least_engine:
            needs["rollout engine: weights and cache"] += f", too little: needs {self.least_engine:.2f}"
        rows = {
            "parameters": _count(self.parameters),
            **needs,
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
        lines += [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join([*lines, "", *([] if self.hardware.memory is None else [UNCOUNTED, ""])])


def _count(parameters: float) -> str:
    return f"{parameters / 1e9:.3g} billion" if parameters >= 1e9 else f"{parameters / 1e6:.3g} million"


def _time(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 2 else f"{60 * hours:.1f} minutes"


def estimate(recipe: Recipe, *, devices: int | None = None, hardware: Hardware | None = None) -> Plan:
    """Estimate a run sharded over all devices (FSDP), with an engine on each.

    Completions are taken to reach half their limit, activations to be recomputed where the recipe says so. By default a
    small model gets a CPU core, a large one that is trained from scratch one H100, and a large checkpoint eight.

    Raises:
        TrainingError: the recipe does not say how large its checkpoint is, and nor can it be read.
    """
    model, settings = read_sizes(recipe.model), recipe.grpo
    parameters = model.parameters
    from_scratch = recipe.model.path is None
    if hardware is None:
        hardware = HARDWARE["cpu" if parameters <= CPU_PARAMETERS else "h100"]
    if devices is None:
        devices = 1 if from_scratch or hardware.memory is None else 8
    width = 2 if recipe.model.dtype == "bfloat16" else 4
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
    key_value = 2 * model.layers * model.key_value_size * width
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
        least_engine=whole + key_value * length / GIB,
        base_hours=supervised / speed / 3600,
        rollout_hours=settings.steps * samples * answer_seconds / 3600,
        update_hours=settings.steps * flops / speed / 3600,
        evaluation_hours=measured * answer_seconds / 3600,
    )


def read_sizes(model: ModelSettings) -> Sizes:
    """What a recipe says of its model; what it does not say of a checkpoint is read from that one's ``config.json``.

    Raises:
        TrainingError: it cannot be read.
    """
    said = {name: getattr(model, name) for name in SIZES}
    if model.path is None:
        defaults = {
            "parameters": 12.0 * model.layers * model.hidden_size**2,
            "key_value_size": model.hidden_size // 2,
        }
        return Sizes(**(said | {name: value for name, value in defaults.items() if said[name] is None}))
    said = {name: value for name, value in said.items() if value != ModelSettings.model_fields[name].default}
    return Sizes(**(said if len(said) == len(SIZES) else _checkpoint_sizes(model.path) | said))


def _checkpoint_sizes(path: str) -> dict[str, Any]:
    """Of a checkpoint (folder or hub name), whose weights are not loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path)
        with torch.device("meta"):
            parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"the size of {path} cannot be read ({str(error).splitlines()[0]}): give"
            f" {', '.join(f'model.{name}' for name in SIZES)} in the recipe or by --set"
        ) from error
    config = config.get_text_config()
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return {
        "parameters": parameters,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "key_value_size": (getattr(config, "num_key_value_heads", None) or heads) * head_size,
    }
