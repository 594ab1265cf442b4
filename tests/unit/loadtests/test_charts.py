from itertools import count

from loadtests.charts import PAGE, History


def test_a_point_holds_the_means_since_the_last_look():
    sums = {"tokens": (0, 0.0), "steps": (0, 0.0)}
    history = History(lambda: sums, rate="tokens", clock=count(0, 2).__next__)
    sums |= {"tokens": (4, 200.0), "steps": (4, 8.0)}
    history.look()
    sums |= {"tokens": (10, 260.0)}
    history.look()
    assert list(history.points) == [
        {"seconds": 2, "tokens": 50, "steps": 2, "answers per second": 2},
        {"seconds": 4, "tokens": 10, "answers per second": 3},
    ]


def test_statistics_that_were_reset_start_again():
    sums = {"tokens": (9, 90.0)}
    history = History(lambda: sums, rate="tokens", clock=count(0, 2).__next__)
    history.look()
    sums["tokens"] = (1, 30.0)
    history.look()
    assert history.points[1] == {"seconds": 4, "answers per second": 0}


def test_the_page_asks_for_the_points():
    assert 'fetch("answers.json")' in PAGE.read_text()
