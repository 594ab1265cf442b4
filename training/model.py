"""The quickstart model: a Qwen3 small enough to train on a CPU in minutes."""

import math

import torch
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

PERIODS = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 25.0, 50.0, 100.0, 200.0)


def build_model(
    tokenizer: PreTrainedTokenizerBase, seed: int, *, hidden_size: int = 128, layers: int = 5
) -> Qwen3ForCausalLM:
    """A freshly initialised float32 Qwen3 for this tokenizer."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 64,
        head_dim=32,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    _initialise_numbers(model, tokenizer, seed)
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def _initialise_numbers(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """Let the embeddings of 0 to 99 start as random projections of waves, so that arithmetic is quick to learn."""
    numbers = torch.arange(100.0)[:, None]
    angles = 2 * math.pi * numbers / torch.tensor(PERIODS)
    waves = torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(len(PERIODS))
    embedding = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(waves.shape[1], embedding.shape[1], generator=generator) * model.config.initializer_range
    for spelling in ("{}", " {}"):
        ids = [tokenizer.encode(spelling.format(number))[0] for number in range(100)]
        embedding[ids] = 0.5 * embedding[ids] + waves @ projection
