"""How a question becomes a prompt."""

from transformers import PreTrainedTokenizerBase


def chat_text(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The chat template's text of one user turn, up to where the model answers."""
    return str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
    )


def chat_tokens(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Token ids of :func:`chat_text`; the template writes every special token itself."""
    return list(tokenizer.encode(chat_text(tokenizer, question), add_special_tokens=False))
