import pytest
import torch

from training.model import build_model
from training.sampler import GREEDY, Request, Sampling, generate
from training.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def model(tokenizer):
    model = build_model(tokenizer, 1, hidden_size=64, layers=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model.eval()


@pytest.fixture(scope="module")
def folder(model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def engine(folder):
    return TransformersEngine(folder, max_sequences=3)


def greedily(model, prompt, tokens):
    ids = torch.tensor([prompt])
    return model.generate(ids, max_new_tokens=tokens, do_sample=False)[0, len(prompt) :].tolist()


def test_rows_of_a_batch_decode_as_if_alone(engine, model, tokenizer):
    prompts = [tokenizer.encode(text) for text in ("Mia has 12 marbles.", "So 4.", "In January 5 are lost. Wait", "x")]
    limits = [12, 3, 20, 7]
    found = generate(engine, [Request(p, n, GREEDY, with_logprobs=True) for p, n in zip(prompts, limits, strict=True)])
    for prompt, limit, completion in zip(prompts, limits, found, strict=True):
        assert list(completion.tokens) == greedily(model, prompt, limit)
        scored = engine.token_logprobs([prompt + list(completion.tokens)])[0][len(prompt) - 1 :]
        assert completion.logprobs == pytest.approx(scored, abs=1e-4)


def test_a_stop_string_ends_a_row_and_its_text(engine, tokenizer):
    prompt = tokenizer.encode("Mia has 12 marbles.")
    [whole] = generate(engine, [Request(prompt, 20, GREEDY)])
    stop = whole.text[4:6]
    [cut] = generate(engine, [Request(prompt, 20, GREEDY, stop=(stop, "never"))])
    assert (cut.finish, cut.stop, cut.text) == ("stop", stop, whole.text[: whole.text.find(stop)])
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    assert whole.finish == "length"


def test_a_token_that_the_tokenizer_does_not_know_ends_nothing(engine, model, tokenizer):
    """The embedding has more rows than the tokenizer has tokens."""
    torch.manual_seed(0)
    unknown = range(len(tokenizer), model.config.vocab_size)
    found = generate(engine, [Request(tokenizer.encode("So"), 8, Sampling(1e6), stop=("never",))] * 20)
    assert {token for completion in found for token in completion.tokens} & set(unknown)
    assert {completion.finish for completion in found} <= {"length", "eos"}


def test_sampling_follows_temperature_and_nucleus(engine, model, tokenizer):
    torch.manual_seed(0)
    prompt = tokenizer.encode("So")
    drawn = generate(engine, [Request(prompt, 1, Sampling(1.0, 0.3))] * 200)
    with torch.no_grad():
        probabilities = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
    ordered, order = probabilities.sort(descending=True)
    nucleus = set(order[: int((ordered.cumsum(0) < 0.3).sum()) + 1].tolist())
    found = {completion.tokens[0] for completion in drawn}
    assert found <= nucleus
    assert len(nucleus) == 1 or len(found) > 1


def test_new_weights_are_what_decodes(engine, tokenizer):
    other = build_model(tokenizer, 2, hidden_size=64, layers=2).eval()
    engine.load_weights(other.state_dict())
    prompt = tokenizer.encode("Mia has")
    [found] = generate(engine, [Request(prompt, 10, GREEDY)])
    assert list(found.tokens) == greedily(other, prompt, 10)
