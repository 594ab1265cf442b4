import random
from itertools import islice

from reasoning import ANSWER_PROMPT
from reasoning.segmenter import DEFAULT_TAGS
from training.problems import take
from training.recipe import SftSettings
from training.sft import IGNORED, _batches, _example, collate
from training.traces import DRILL


def test_a_trace_cut_early_teaches_what_follows_the_cut_and_the_true_answer(tokenizer):
    """Rollouts write the blank lines themselves, so a base that does not know them is never corrected later."""
    problem = take("train", 0, 1)[0]
    taught = set()
    for seed in range(20):
        example = _example(tokenizer, problem, DRILL, 1.0, random.Random(seed))
        taught.add(tokenizer.decode(example.tokens[example.learned_from :]))
        shown = tokenizer.decode(example.tokens[: example.learned_from])
        assert shown.endswith((ANSWER_PROMPT, DEFAULT_TAGS[1]))
    assert taught == {
        f"{{{problem.answer}}}</think>",
        f"\n\nThe answer is \\boxed{{{problem.answer}}}.<|im_end|>",
    }


def test_padding_and_prompts_are_not_learned(tokenizer):
    examples = [_example(tokenizer, p, DRILL, 0.0, random.Random(0)) for p in take("train", 0, 3)]
    tokens, labels = collate(examples, tokenizer.pad_token_id)
    for row, example in enumerate(examples):
        learned = labels[row] != IGNORED
        assert learned.sum() == len(example.tokens) - example.learned_from
        assert (tokens[row][learned] == labels[row][learned]).all()


def test_a_drill_shows_whole_traces_and_what_follows_it_the_share_that_is_cut(tokenizer):
    settings = SftSettings(steps=2, drill=0.5, cut_share=1.0, batch_tokens=100_000)
    batches = list(islice(_batches(tokenizer, settings, 0), 2))
    learned = [{tokenizer.decode(e.tokens[e.learned_from])[:7] for e in batch} for batch in batches]
    assert learned[0] == {"<think>"}
    assert "<think>" not in learned[1]
