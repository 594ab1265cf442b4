import questions


def test_the_bundled_questions_are_held_out_and_come_from_the_generator():
    assert questions.FILE.read_text().splitlines(keepends=True) == questions.lines(), "run: python tools/questions.py"
