"""A question to the real server: what streams in, what the bar says, and what the server counted."""

import asyncio
import json
import re

import pytest
from lane import Lane
from playwright.async_api import expect
from scripted_server import END, REPORT, chunk

pytestmark = pytest.mark.integration

QUESTION = (
    "Sam starts with 33 coins and gets 4 more each day. How many coins does Sam have"
    " the first time that 7 friends can share them equally?"
)


@pytest.fixture
async def ready(page, server):
    """The page, greedy, with the question typed in."""
    await page.goto(server.url)
    await page.get_by_label("Temperature").fill("0")
    await page.get_by_label("Question").fill(QUESTION)
    return page


async def ask(page):
    await page.get_by_role("button", name="Ask").click()


async def finished(lane):
    await expect(lane.root).not_to_have_attribute("aria-busy", "true")
    await expect(lane.figure("tokens")).not_to_have_text("0")


async def change_request(page, **fields):
    """Send other fields along with every question."""

    async def changed(route):
        await route.continue_(post_data=json.dumps(route.request.post_data_json | fields))

    await page.route("**/v1/chat/completions", changed)


async def endless(page, server):
    """Keep the model thinking until somebody stops it."""
    options = server.endless()
    await change_request(page, logit_bias=options["logit_bias"], ignore_eos=True)


async def aborted(counted):
    """Whether the server soon counts one more answer that its client left."""
    for _ in range(100):
        if counted()["stepgrpo_exits_total|reason=abort"] == 1:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_an_answer_with_its_steps_exit_and_savings(ready, lane, server, counted):
    await ask(ready)
    await finished(lane)
    gained = counted()
    tokens = gained["stepgrpo_completion_tokens_sum"]
    assert await lane.figure("tokens").text_content() == f"{tokens:.0f}"
    assert await lane.steps.count() == gained["stepgrpo_reasoning_steps_sum"]
    assert sum(await lane.step_tokens()) == gained["stepgrpo_reasoning_tokens_sum"]
    await expect(lane.answer).to_contain_text("boxed")
    ratio = server.card.calibration.savings_ratio.mean
    await expect(lane.figure("saved")).to_have_text(f"{ratio:.0%}".replace("%", " %"))
    await expect(lane.root).to_contain_text("the model stopped thinking by itself")
    baseline = tokens / (1 - ratio)
    await expect(lane.root).to_contain_text(f"Baseline {baseline:.0f}: calibrated mean of the base model")
    await expect(lane.bar).to_have_accessible_name(re.compile(rf"baseline {baseline:.0f} tokens, {ratio:.0%}"[:-1]))


async def test_each_step_after_the_first_opens_with_its_marker_highlighted(ready, lane, server):
    await ask(ready)
    await finished(lane)
    marks = await lane.steps.locator("mark").all_text_contents()
    assert len(marks) > 1
    assert set(marks[1:]) <= set(server.card.markers)
    for index in range(1, len(marks)):
        await expect(lane.steps.nth(index).locator(".text")).to_have_text(re.compile(rf"^{marks[index]}\b"))


async def test_steps_come_in_while_the_model_still_thinks(ready, lane, server, counted):
    await endless(ready, server)
    await ask(ready)
    await expect(lane.steps.nth(2)).to_be_visible()
    await expect(lane.root).to_have_attribute("aria-busy", "true")
    await expect(lane.figure("saved")).to_have_text("–")
    await ready.get_by_role("button", name="Stop").click()
    await finished(lane)
    assert await aborted(counted)


@pytest.mark.parametrize("by", ["button", "Escape"])
async def test_stopping_ends_the_request_at_the_server(ready, lane, server, counted, by):
    await endless(ready, server)
    await ask(ready)
    await expect(lane.steps.first).to_be_visible()
    if by == "button":
        await ready.get_by_role("button", name="Stop").click()
    else:
        await ready.keyboard.press("Escape")
    await expect(lane.note).to_have_text("Stopped. What had come is shown.")
    await expect(ready.get_by_role("button", name="Ask")).to_be_enabled()
    assert await aborted(counted)


async def test_leaving_the_page_ends_the_request_at_the_server(ready, lane, server, counted):
    await endless(ready, server)
    await ask(ready)
    await expect(lane.steps.first).to_be_visible()
    await ready.goto("about:blank")
    assert await aborted(counted)


async def test_exit_control_is_sent_where_it_is_switched_on(ready, lane):
    bodies = []
    ready.on("request", lambda request: bodies.append(request.post_data_json) if request.method == "POST" else None)
    await ask(ready)
    await finished(lane)
    await ready.get_by_label("Step budget").check()
    await ready.get_by_label("Steps at most").fill("2")
    await ready.get_by_label("Early exit").check()
    await ready.get_by_label("Confidence at which thinking ends").fill("0.9")
    await ask(ready)
    await finished(lane)
    plain, controlled = bodies
    assert plain.keys() == {"messages", "temperature", "model", "logprobs", "stream", "stream_options"}
    assert controlled == plain | {
        "max_reasoning_steps": 2,
        "early_exit": {"policy": "confidence", "threshold": 0.9},
    }


async def test_a_step_budget_ends_the_thinking(ready, lane):
    await ready.get_by_label("Step budget").check()
    await ready.get_by_label("Steps at most").fill("2")
    await ask(ready)
    await finished(lane)
    await expect(lane.root).to_contain_text("Exit after step 2: the step budget was used up")
    await expect(lane.steps).to_have_count(2)


async def test_an_early_exit_ends_the_thinking(ready, lane):
    await ready.get_by_label("Early exit").check()
    await ready.get_by_label("Confidence at which thinking ends").fill("0")
    await ask(ready)
    await finished(lane)
    await expect(lane.root).to_contain_text("Exit after step 1: a trial answer was confident enough")


async def test_a_value_that_does_not_fit_is_not_sent(ready, lane):
    await ready.get_by_label("Step budget").check()
    await ready.get_by_label("Steps at most").fill("0")
    await ask(ready)
    await expect(lane.root).not_to_have_class(re.compile("asked"))
    await expect(ready.get_by_label("Steps at most")).to_be_focused()


async def test_one_question_two_answers_side_by_side(ready, lane):
    await ready.get_by_label("Side by side").check()
    second = Lane(ready.get_by_role("region", name="Second answer"))
    await ask(ready)
    await finished(lane)
    await finished(second)
    tokens = await lane.figure("tokens").text_content()
    await expect(ready.locator("#difference")).to_have_text(
        f"Tokens for this question: Answer {tokens}, Second answer {tokens}. No difference."
    )
    await ready.get_by_label("Side by side").uncheck()
    await expect(second.root).to_have_count(0)


async def test_a_second_server_side_by_side(page, server, scripted_beside_real):
    """The page of one server asks another too, and gives both bars one scale."""
    scripted = scripted_beside_real
    await page.goto(scripted.url)
    await expect(page.get_by_label("Side by side")).to_be_checked()
    first = Lane(page.get_by_role("region", name="Answer", exact=True))
    second = Lane(page.get_by_role("region", name="Second answer"))
    await expect(first.root.get_by_label("Model")).to_have_value("0")
    await expect(second.root.get_by_label("Model").locator("option:checked")).to_have_text(server.model)
    await page.get_by_label("Temperature").fill("0")
    await page.get_by_label("Question").fill(QUESTION)
    await ask(page)
    await finished(first)
    await finished(second)
    more = int(await second.figure("tokens").text_content())
    await expect(page.locator("#difference")).to_contain_text(f"scripted 8, {server.model} {more}. scripted took")
    widths = [
        await each.bar.locator(".answered").evaluate("element => element.getBoundingClientRect().width")
        for each in (first, second)
    ]
    spent = [2, more - sum(await second.step_tokens())]
    assert widths[0] / widths[1] == pytest.approx(spent[0] / spent[1], rel=0.05)


async def test_the_live_strip_says_what_the_server_sums_up(ready, lane, server):
    await ask(ready)
    await finished(lane)
    row = ready.get_by_role("complementary").get_by_role("listitem").filter(has_text=server.model)
    await expect(row).to_contain_text("tokens per answer")
    shown = float(re.search(r"([\d.]+) tokens per answer", await row.text_content())[1])
    summary = await (await ready.request.get(f"{server.url}/v1/efficiency")).json()
    (entry,) = [each for each in summary["data"] if each["model"] == server.model]
    assert shown == pytest.approx(entry["tokens_per_answer"]["completion"], abs=0.06)
    await expect(row).to_contain_text(f"{entry['answers']} answer")


async def test_the_keyboard_is_enough(page, server, lane):
    await change_request(page, max_tokens=100)  # now and then, the model does not come to an end with such a question
    await page.goto(server.url)
    await expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    for name in ("API key", "Question"):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        await expect(focused).to_have_accessible_name(name)
    await page.keyboard.type("Leo has 12 stamps.")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("In March 7 more are bought. How many stamps does Leo have now?")
    await page.keyboard.press("Enter")
    await finished(lane)
    await expect(page.get_by_label("Question")).to_be_focused()
    await expect(page.get_by_label("Question")).to_have_value(re.compile(r"stamps\.\nIn March"))


async def test_the_focus_is_never_lost_to_a_button_that_is_disabled(ready, lane, server):
    await endless(ready, server)
    await ready.get_by_role("button", name="Ask").press("Enter")
    stop = ready.get_by_role("button", name="Stop")
    await expect(stop).to_be_focused()
    await expect(lane.steps.first).to_be_visible()
    await stop.press("Enter")
    await expect(ready.get_by_label("Question")).to_be_focused()


async def test_the_end_is_announced_to_screen_readers(ready, lane):
    status = ready.get_by_role("status")
    await ask(ready)
    await finished(lane)
    await expect(status).to_have_text(re.compile(r"^Answer: \d+ steps?, \d+ tokens, \d+ % saved\. .*boxed"))


async def test_an_example_fills_the_question(ready):
    example = ready.get_by_role("group", name="Examples").get_by_role("button").nth(1)
    await example.click()
    await expect(ready.get_by_label("Question")).to_have_value(await example.text_content())


async def test_tokens_that_come_together_are_counted_where_each_begins(page, lane, scripted):
    tokens = ["<think>", "One", ".", "\ufffd", "\ufffd", " Wait", ",", " one", ".", "</think>", "1"]
    together = chunk(
        {"reasoning": "One.\u2713 Wait, one.", "content": "1"},
        len(tokens),
        logprobs={"content": [{"token": token} for token in tokens]},
    )
    report = REPORT | {"tokens": {"reasoning": 10, "answer": 1, "completion": 11}}
    scripted.script = [together, chunk({"content": ""}, 11, "stop", reasoning_efficiency=report), END]
    await page.goto(scripted.url)
    await page.get_by_label("Question").fill("Is it one?")
    await ask(page)
    await finished(lane)
    assert await lane.step_tokens() == [6, 4]
    assert scripted.asked[0][1]["logprobs"] is True
