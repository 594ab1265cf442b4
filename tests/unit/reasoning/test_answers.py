from concurrent.futures import ThreadPoolExecutor

import pytest

from reasoning import answers_equal, boxed_answer, extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{3} no, \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{4} and \boxed{5", "4"),
        (r"\boxed{4} and \boxed{ }", "4"),
        (r"\boxed{x = \boxed{4}}", "4"),
        (r"\boxed{\left\{1, 2\right.}", r"\left\{1, 2\right."),
        (r"{ \boxed {4} }}", "4"),
        ("4", None),
    ],
)
def test_the_last_complete_box_counts(text, answer):
    assert boxed_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"7 \boxed{4} 9", "4"),
        ("it is 1,024 or -3.5", "-3.5"),
        ("1,024", "1024"),
        ("3/4 of it", "3/4"),
        ("5-3", "3"),
        ("I choose (B).", "B"),
        ("Answer: **C**", "C"),
        ("A cat", None),
        ("no", None),
    ],
)
def test_extraction_falls_back_to_numbers_then_choices(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("4", "04"),
        ("3.0", "3"),
        ("1,024", "1024"),
        (" x ", "x"),
        (r"\frac{1}{2}", "0.5"),
        ("2x+1", "1+2x"),
        ("x=5", "5"),
        ("50%", "50%"),
        ("Unknown", "unknown"),
    ],
)
def test_equal_answers(first, second):
    assert answers_equal(first, second)
    assert answers_equal(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("4", "5"),
        (None, None),
        ("4", None),
        ("", ""),
        ("unknown", "4"),
        ("listen", "silent"),
        (r"\frac{", "4"),
        ("1/0", "4"),
        ("1" * 5000, "2" * 5000),
    ],
)
def test_different_or_missing_answers(first, second):
    assert not answers_equal(first, second)
    assert not answers_equal(second, first)


def test_answers_are_compared_in_any_thread():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(answers_equal, r"\frac{1}{2}", "0.5").result()


def test_a_comparison_that_would_never_end_is_given_up(monkeypatch):
    monkeypatch.setattr("reasoning.answers._SECONDS", 1)
    assert not answers_equal("10^{10^{10}}", "3")


def test_unclosed_boxes_cost_no_more_than_their_length():
    assert boxed_answer("\\boxed{" * 100_000) is None
