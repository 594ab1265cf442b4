from itertools import islice

import pytest

from training.problems import FAMILIES, GUESS_AND_CHECK, LONG, SHORT, problems, take

SIZES = pytest.mark.parametrize("size", [SHORT, LONG])


def replay(problem):
    """The answer, worked out anew from what the question is made of."""
    if problem.family == "chain":
        value = problem.start
        for operation in problem.operations:
            value = operation.apply(value)
        return str(value)
    return next(candidate.answer for candidate in problem.candidates if candidate.remainder == 0)


@SIZES
def test_the_answer_follows_from_the_parts(size):
    for problem in take("train", 0, 300, size=size):
        assert replay(problem) == problem.answer


@SIZES
def test_the_needed_step_is_the_first_candidate_that_fits(size):
    for problem in take("train", 0, 300, size=size):
        if problem.family in GUESS_AND_CHECK:
            remainders = [candidate.remainder for candidate in problem.candidates]
            assert remainders.index(0) + 1 == problem.needed


@SIZES
def test_a_chain_needs_a_second_pass_where_the_first_reads_only_a_part_of_it(size):
    for problem in take("train", 0, 600, size=size):
        if problem.family == "chain":
            value = problem.start
            for operation in problem.operations[: size.first_pass]:
                value = operation.apply(value)
            assert problem.needed == (1 if str(value) == problem.answer else 2)
            assert problem.needed == (1 if len(problem.operations) <= size.first_pass else 2)


@pytest.mark.parametrize(("size", "needed", "operations"), [(SHORT, 6, 8), (LONG, 10, 12)])
def test_needed_steps_and_chain_lengths_vary(size, needed, operations):
    sample = take("train", 0, 600, size=size)
    assert {p.needed for p in sample if p.family in GUESS_AND_CHECK} == set(range(1, needed + 1))
    assert {p.difficulty for p in sample if p.family == "chain"} == set(range(2, operations + 1))


@SIZES
def test_every_number_is_below_100(size):
    for problem in take("train", 0, 200, size=size):
        assert all(int(word) < 100 for word in problem.question.replace(".", " ").split() if word.isdigit())


def test_splits_are_disjoint_whatever_the_seed():
    train = {problem.question for problem in islice(problems("train", 1), 3000)}
    test = {problem.question for problem in take("test", 2, 300)}
    calibration = {problem.question for problem in take("calibration", 3, 300)}
    assert not train & test
    assert not train & calibration
    assert not test & calibration


def test_a_seed_gives_the_same_problems_again():
    assert take("test", 5, 50) == take("test", 5, 50)
    assert take("test", 5, 50) != take("test", 6, 50)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_family_can_be_asked_for(family):
    assert {p.family for p in islice(problems("train", 0, (family,)), 20)} == {family}
