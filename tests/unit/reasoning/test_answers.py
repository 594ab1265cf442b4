import pytest

from reasoning import answers_equal, boxed_answer, extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{3} no, \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{4} and \boxed{5", "4"),
        ("4", None),
    ],
)
def test_the_last_complete_box_counts(text, answer):
    assert boxed_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [(r"7 \boxed{4} 9", "4"), ("it is 1,024 or -3.5", "-3.5"), ("1,024", "1024"), ("I choose (B).", "B"), ("no", None)],
)
def test_extraction_falls_back_to_numbers_then_choices(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("first", "second"), [("4", "04"), (" x ", "x"), (r"\frac{1}{2}", "0.5"), ("2x+1", "1+2x"), ("50%", "50%")]
)
def test_equal_answers(first, second):
    assert answers_equal(first, second)


@pytest.mark.parametrize(("first", "second"), [("4", "5"), (None, None), ("4", None), ("unknown", "4"), ("", "")])
def test_different_or_missing_answers(first, second):
    assert not answers_equal(first, second)
