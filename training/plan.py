"""What a run needs in memory and time, before it starts."""

from dataclasses import dataclass

from training.recipe import Recipe

GIB = 2**30
ADAPTED_SHARE = 14.0
"""Adapter parameters a layer, in units of rank x hidden size: both sides of seven linear layers."""
UTILISATION = 0.35
"""Share of the peak FLOP/s that training reaches."""
DECODING_EFFICIENCY = 0.6
"""Share of the peak bandwidth that decoding reaches."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator: memory in GiB, peak bfloat16 FLOP/s, memory bandwidth in bytes/s."""

    name: str
    memory: float
    flops: float
    bandwidth: float


H100 = Hardware("H100 80 GB", 80, 989e12, 3.35e12)


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
    rollout_hours: float
    update_hours: float

    @property
    def fits(self) -> bool:
        """Whether a device holds the run, with a tenth to spare."""
        return self.training + self.activations + self.engine <= 0.9 * self.hardware.memory

    def as_markdown(self) -> str:
        """A table for people."""
        total = self.training + self.activations + self.engine
        rows = {
            "parameters": f"{self.parameters / 1e9:.3g} billion",
            "weights, gradients, optimiser": f"{self.training:.2f} GiB a device",
            "activations of a micro-batch": f"{self.activations:.2f} GiB a device",
            "rollout engine: weights and cache": f"{self.engine:.2f} GiB a device",
            "total": f"{total:.2f} of {self.hardware.memory:g} GiB: {'fits' if self.fits else 'does not fit'}",
            "rollouts": f"{self.rollout_hours:.2f} hours",
            "updates": f"{self.update_hours:.2f} hours",
        }
        lines = [
            f"# {self.recipe} on {self.devices} x {self.hardware.name} (estimate)",
            "",
            "| what | needs |",
            "|---|---|",
        ]
        return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items()), ""])


def estimate(recipe: Recipe, *, devices: int = 8, hardware: Hardware = H100) -> Plan:
    """Estimate a run sharded over all devices (FSDP), with an engine on each.

    Completions are taken to reach half their limit, activations to be recomputed where the recipe says so.
    """
    model, settings = recipe.model, recipe.grpo
    parameters = model.parameters or 12.0 * model.layers * model.hidden_size**2
    width = 2 if model.dtype == "bfloat16" else 4
    trained = parameters
    if recipe.lora is not None:
        trained = ADAPTED_SHARE * recipe.lora.rank * model.hidden_size * model.layers
    weights = parameters * width / devices
    gradients_and_moments = trained * (width + 2 * width) / devices
    reference = parameters * width / devices if settings.kl and recipe.lora is None else 0.0
    length = recipe.rollout.max_prompt_tokens + recipe.rollout.max_completion_tokens
    kept_per_layer = 2 if settings.gradient_checkpointing else 34
    activations = settings.micro_batch * length * model.hidden_size * model.layers * kept_per_layer * width / 2
    samples = settings.prompts * settings.group_size
    mean_tokens = recipe.rollout.max_completion_tokens / 2
    key_value = 2 * model.layers * (model.key_value_size or model.hidden_size // 2) * width
    cache = recipe.rollout.gpu_memory * hardware.memory * GIB - parameters * width
    held = key_value * (recipe.rollout.max_prompt_tokens + mean_tokens / 2)  # bytes of a sequence half way
    batch = max(1.0, min(samples / devices, cache / held))
    step_seconds = (parameters * width + batch * held) / hardware.bandwidth / DECODING_EFFICIENCY
    rollout_seconds = samples / devices / batch * mean_tokens * step_seconds
    passes = 4 if settings.gradient_checkpointing else 3
    flops = 2 * parameters * samples * (mean_tokens + recipe.rollout.max_prompt_tokens) * (passes + bool(settings.kl))
    return Plan(
        recipe=recipe.name,
        parameters=parameters,
        hardware=hardware,
        devices=devices,
        training=(weights + gradients_and_moments + reference) / GIB,
        activations=activations / GIB,
        engine=recipe.rollout.gpu_memory * hardware.memory,
        rollout_hours=settings.steps * rollout_seconds / 3600,
        update_hours=settings.steps * flops / (devices * UTILISATION * hardware.flops) / 3600,
    )
