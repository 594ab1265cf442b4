import random
import re

from reasoning import parse_trace
from training.problems import take
from training.traces import DRILL, MARKERS, Habits, write_trace


def written(habits, count=400):
    rng = random.Random(1)
    return [(problem, write_trace(problem, rng, habits)) for problem in take("train", 0, count)]


def test_steps_are_what_the_segmenter_finds():
    for _, trace in written(Habits()):
        parsed = parse_trace(f"<think>\n{trace.thinking}\n</think>\n\n", markers=MARKERS)
        assert [step.text.strip() for step in parsed.steps] == list(trace.steps)


def test_a_drill_is_right_and_has_no_redundant_step():
    for problem, trace in written(DRILL):
        assert trace.answer == problem.answer
        assert len(trace.steps) == (1 if problem.family == "chain" else problem.needed)


def test_overthinking_goes_on_after_the_answer_was_found():
    redundant = [len(trace.steps) - trace.beliefs.index(trace.answer) - 1 for _, trace in written(Habits())]
    assert sum(count > 0 for count in redundant) / len(redundant) > 0.6


def test_the_first_pass_of_a_long_chain_is_wrong_and_a_check_mends_it():
    for problem, trace in written(Habits(first_pass_slip=0, check_slip=0, overlook=0)):
        if problem.family == "chain" and problem.needed == 2:
            assert trace.beliefs[0] != problem.answer == trace.beliefs[1]
            assert f"It is {problem.answer}, not {trace.beliefs[0]}." in trace.steps[1]


def test_later_checks_rescue_more_first_passes_than_they_spoil():
    chains = [(p, t) for p, t in written(Habits(), 1500) if p.family == "chain"]
    rescued = sum(t.beliefs[0] != p.answer == t.answer for p, t in chains)
    spoiled = sum(t.beliefs[0] == p.answer != t.answer for p, t in chains)
    assert rescued > 5 * spoiled
    assert rescued / len(chains) > 0.4


def test_the_written_arithmetic_is_right_even_where_the_pass_is_wrong():
    results = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    for _, trace in written(Habits()):
        for first, symbol, second, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", trace.thinking):
            assert results[symbol](int(first), int(second)) == int(result)
