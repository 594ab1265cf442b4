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
        (r"\text{Yes}", "Yes"),
        (r"\text{No}", "no"),
        (r"\textbf{Yes}", "yes"),
        (r"\mathrm{True}", "True"),
        (r"\mbox{False}", r"\text{false}"),
        ("Yes.", "Yes"),
        (r"$\text{Yes}$", "Yes"),
        (r"\(\textbf{\text{Yes.}}\)", "Yes"),
        (r"\text{odd  function}", "Odd function"),
        ("$x$", "x."),
        ("72 dollars", "72"),
        ("72 clips", "72"),
        ("10 minutes", "10"),
        ("1,000 Dollars", "1000"),
        ("72 dollars", r"\$72"),
        ("72.50 dollars", r"72.5 \text{ dollars}"),
        ("-5 points", "-5.0"),
        (r"\frac{3}{4} cups", "3/4"),
        (r"5\ \text{solutions}", "5"),
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
        (r"\text{Yes}", "No"),
        (r"\text{No}", "0"),
        ("No", "on"),
        (r"\text{odd}", "even"),
        (r"\text{even function}", "even"),
        (r"\text{True}", "1"),
        (r"\text{}", "."),
        ("72 dollars", "73"),
        ("72 dollars", "72 euros"),
        ("72 dollars", "x"),
        ("72 dollars", "72 x"),
        ("3 x", "3"),
        ("x", "5 x"),
        ("3 xyz", "3"),
        ("6 abc", "6"),
        ("2 pi", "2"),
        (r"2\pi", "2"),
        ("2 theta", "2"),
        ("3 sin", "3"),
        ("2 dozen", "2"),
        ("2 million", "2"),
        ("3 quarters", "3"),
        ("2 infinity", "2"),
        ("dollars", "72 dollars"),
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


def test_words_and_amounts_need_no_algebra(monkeypatch):
    monkeypatch.setattr("reasoning.answers._verified", None)
    assert not answers_equal(r"\text{No}", "Yes")
    assert answers_equal(r"\text{No}", "no")
    assert answers_equal("72 clips", "72")
    assert not answers_equal("72 clips", "73")
    assert not answers_equal(r"\text{" * 100_000, "Yes")


def test_unclosed_boxes_cost_no_more_than_their_length():
    assert boxed_answer("\\boxed{" * 100_000) is None
