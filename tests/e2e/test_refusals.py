"""What the page does when the server refuses, fails or is of another kind; and what becomes of hostile text."""

from threading import Event

import pytest
from lane import Lane
from playwright.async_api import expect
from scripted_server import EFFICIENCY, END, answer, chunk, end, thinking

HOSTILE = (
    "<img src=x onerror=\"window.hacked='img'\"><script>window.hacked='script'</script>"
    "<svg onload=\"window.hacked='svg'\"></svg><a href=\"javascript:window.hacked='link'\">go</a>"
    "<iframe srcdoc=\"<script>parent.hacked='frame'</script>\"></iframe>"
)


async def open_and_ask(page, server, question="What is one and one?"):
    await page.goto(server.url)
    await page.get_by_label("Question").fill(question)
    await page.get_by_role("button", name="Ask").click()


async def ended(lane):
    await expect(lane.root).not_to_have_attribute("aria-busy", "true")


async def nothing_ran(page, lane):
    assert await page.evaluate("window.hacked") is None
    for tag in ("img", "script", "svg", "a", "iframe"):
        assert await lane.root.locator(tag).count() == 0
    return True


async def test_what_the_model_says_is_text_and_never_markup(page, lane, scripted):
    scripted.script = [thinking(HOSTILE, 3), thinking(f" Wait, {HOSTILE}", 6), answer(HOSTILE, 8), end(), END]
    await open_and_ask(page, scripted)
    await ended(lane)
    await expect(lane.answer).to_have_text(HOSTILE)
    await expect(lane.steps.nth(0)).to_contain_text(HOSTILE)
    await expect(lane.steps.nth(1)).to_contain_text(HOSTILE)
    assert await nothing_ran(page, lane)


async def test_hostile_text_cut_anywhere_is_text_too(page, lane, scripted):
    scripted.script = [*(thinking(letter, 1) for letter in HOSTILE), *(answer(c, 8) for c in HOSTILE), end(), END]
    await open_and_ask(page, scripted)
    await ended(lane)
    await expect(lane.answer).to_have_text(HOSTILE)
    assert await nothing_ran(page, lane)


async def test_a_switch_that_is_turned_before_the_models_are_known_stays(page, scripted):
    async def late(route):
        await switch.check()
        await route.continue_()

    switch = page.get_by_label("Side by side")
    await page.route("**/v1/models", late)
    await page.goto(scripted.url)
    await expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    await expect(switch).to_be_checked()
    await expect(page.get_by_role("region", name="Second answer", exact=True)).to_be_visible()


async def test_names_reports_summaries_and_errors_are_text_too(page, lane, scripted):
    scripted.models = [HOSTILE]
    scripted.efficiency = [EFFICIENCY | {"model": HOSTILE}]
    scripted.script = [thinking("Two.", 6), end(exit={"reason": HOSTILE, "step": 1, "reasoning_tokens": 6}), END]
    await open_and_ask(page, scripted)
    await ended(lane)
    await expect(lane.root).to_contain_text(f"Exit after step 1: {HOSTILE}")
    await expect(page.get_by_role("complementary").get_by_role("listitem")).to_contain_text(HOSTILE)
    scripted.refusal = (400, {"error": {"message": HOSTILE}}, {})
    await page.get_by_role("button", name="Ask").click()
    await expect(lane.alert).to_have_text(HOSTILE)
    assert await nothing_ran(page, lane)


async def test_the_policy_stops_markup_even_if_a_script_made_some(page, scripted, complaints):
    await page.goto(scripted.url)
    failed = await page.evaluate(
        """() => { try { document.body.innerHTML = "<b>markup</b>"; } catch (error) { return error.name; } }"""
    )
    assert failed == "TypeError"
    assert await page.evaluate("fetch('http://127.0.0.1:9/').catch((error) => error.name)") == "TypeError"
    assert all("Content Security Policy" in text or "TrustedHTML" in text for text in complaints)
    complaints.clear()


async def test_a_server_with_keys_asks_for_one(page, lane, scripted):
    scripted.key = "sk-right"
    await page.goto(scripted.url)
    await expect(page.locator("#problem")).to_have_text("This server needs an API key.")
    field = page.get_by_label("API key", exact=True)
    await expect(field).to_be_visible()
    await expect(page.get_by_role("button", name="Ask")).to_be_disabled()
    await field.fill("sk-wrong")
    await field.press("Tab")
    await expect(page.locator("#problem")).to_have_text("The server does not accept this API key.")
    await field.fill("sk-right")
    await field.press("Tab")
    await expect(page.locator("#problem")).to_have_text("")
    await page.get_by_label("Question").fill("What is one and one?")
    await page.get_by_role("button", name="Ask").click()
    await expect(lane.answer).to_have_text("2")
    ((headers, body),) = scripted.asked
    assert headers["authorization"] == "Bearer sk-right"
    assert "sk-right" not in str(body)
    assert "cookie" not in headers


async def test_a_key_lives_in_the_session_storage_of_its_tab_alone(page, context, scripted):
    scripted.key = "sk-right"
    await page.goto(scripted.url)
    await page.get_by_label("API key", exact=True).fill("sk-right")
    await page.get_by_label("API key", exact=True).press("Tab")
    await expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    stored = await page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie]")
    assert stored == [{f"stepgrpo.key {scripted.url}": "sk-right"}, {}, ""]
    await page.reload()
    await expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    other = await context.new_page()
    await other.goto(scripted.url)
    await expect(other.locator("#problem")).to_have_text("This server needs an API key.")


async def test_a_key_is_sent_to_its_own_server_only(page, scripted, second_scripted):
    scripted_page, other = second_scripted
    other.key = "sk-other"
    await page.goto(scripted_page.url)
    await page.get_by_label(f"API key for {scripted_page.url}").fill("sk-own")
    await page.get_by_label(f"API key for {other.url}").fill("sk-other")
    await page.get_by_label(f"API key for {other.url}").press("Tab")
    await expect(page.get_by_role("region", name="Second answer").get_by_label("Model")).to_have_value("1")
    await page.get_by_label("Question").fill("What is one and one?")
    await page.get_by_role("button", name="Ask").click()
    await expect(Lane(page.get_by_role("region", name="Second answer")).answer).to_have_text("2")
    assert [headers["authorization"] for headers, _ in scripted_page.asked] == ["Bearer sk-own"]
    assert [headers["authorization"] for headers, _ in other.asked] == ["Bearer sk-other"]


async def test_a_key_that_is_taken_away_while_the_page_is_open(page, lane, scripted):
    await page.goto(scripted.url)
    await page.get_by_label("Question").fill("What is one and one?")
    scripted.key = "sk-new"
    await page.get_by_role("button", name="Ask").click()
    await expect(lane.alert).to_have_text("This server needs an API key.")
    await expect(page.get_by_label("API key", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((400, {"error": {"message": "max_reasoning_steps must be at least 1"}}, {}), "max_reasoning_steps must be"),
        ((429, {"error": {"message": "Too many requests."}}, {"Retry-After": "7"}), "requests. Try again in 7 s."),
        ((500, {"error": {"message": "The engine failed."}}, {}), "The engine failed."),
        ((502, "<html>Bad gateway</html>", {}), "The server answered with status 502."),
    ],
)
async def test_a_refusal_is_shown_and_the_next_question_may_come(page, lane, scripted, refusal, words):
    scripted.refusal = refusal
    await open_and_ask(page, scripted)
    await expect(lane.alert).to_contain_text(words)
    scripted.refusal = None
    await page.get_by_role("button", name="Ask").click()
    await expect(lane.answer).to_have_text("2")
    await expect(lane.alert).to_be_hidden()


async def test_an_error_within_a_stream_keeps_what_had_come(page, lane, scripted):
    scripted.script = [thinking("One and", 2), {"error": {"message": "The engine died."}}, END]
    await open_and_ask(page, scripted)
    await expect(lane.alert).to_have_text("The engine died.")
    await expect(lane.steps).to_have_count(1)


async def test_a_stream_that_breaks_off_is_no_answer(page, lane, scripted):
    scripted.script = [thinking("One and", 2)]
    await open_and_ask(page, scripted)
    await expect(lane.alert).to_have_text("The connection ended before the answer did. Ask again.")


async def test_a_server_that_is_gone(page, lane, scripted):
    await page.goto(scripted.url)
    await page.get_by_label("Question").fill("What is one and one?")
    await page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
    await page.get_by_role("button", name="Ask").click()
    await expect(lane.alert).to_have_text(f"No answer from {scripted.url}. Is it still running?")


async def test_a_server_of_another_kind_is_shown_without_what_it_does_not_know(page, lane, scripted):
    """No report, no token counts in the stream, no summary; thinking under its older name."""
    scripted.efficiency = None
    scripted.script = [
        *(chunk({"reasoning_content": text}, 0) for text in ("One", ". Wait", ", two.")),
        chunk({"content": "2"}, 0, "stop"),
        END,
    ]
    for event in scripted.script[:-1]:
        del event["usage"]
    await open_and_ask(page, scripted)
    await expect(lane.answer).to_have_text("2")
    await expect(lane.steps).to_have_count(2)
    await expect(lane.figure("tokens")).to_have_text("4")
    await expect(lane.figure("saved")).to_have_text("–")
    await expect(lane.legend("thinking")).to_be_visible()
    await expect(lane.legend("exit")).to_be_hidden()
    await expect(lane.legend("saved")).to_be_hidden()
    await expect(page.locator("#live-note")).to_have_text("This server does not report its efficiency.")


async def test_a_step_budget_that_the_server_ignores_is_said(page, lane, scripted):
    await page.goto(scripted.url)
    await page.get_by_label("Step budget").check()
    await page.get_by_label("Steps at most").fill("1")
    await page.get_by_label("Question").fill("What is one and one?")
    await page.get_by_role("button", name="Ask").click()
    await expect(lane.note).to_have_text("This server did not keep to 1 step.")


async def test_text_streams_in_before_the_answer_ends(page, lane, scripted):
    seen = Event()
    scripted.script = [thinking("Two. ", 3), thinking("Wait, two.", 6), seen, answer("2", 8), end(), END]
    await open_and_ask(page, scripted)
    await expect(lane.steps).to_have_count(2)
    await expect(lane.root).to_have_attribute("aria-busy", "true")
    await expect(lane.answer).to_have_text("")
    await expect(page.get_by_role("button", name="Ask")).to_be_disabled()
    await expect(lane.legend("exit")).to_be_hidden()
    seen.set()
    await expect(lane.answer).to_have_text("2")
    await expect(lane.legend("exit")).to_be_visible()
    await expect(lane.legend("saved")).to_be_visible()
    assert await lane.step_tokens() == [3, 3]


async def test_a_comparison_names_the_models_that_were_asked(page, scripted):
    seen = Event()
    scripted.models = ["one", "other"]
    scripted.script = [thinking("Two.", 3), seen, answer("2", 8), end(), END]
    await page.goto(scripted.url)
    await expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    await page.get_by_label("Side by side").check()
    await page.get_by_label("Question").fill("What is one and one?")
    await page.get_by_role("button", name="Ask").click()
    second = Lane(page.get_by_role("region", name="Second answer"))
    await expect(second.steps).to_have_count(1)
    await second.root.get_by_label("Model").select_option("0")
    seen.set()
    await expect(page.locator("#difference")).to_have_text("Tokens for this question: one 8, other 8. No difference.")


async def test_the_live_strip_does_not_knock_again_without_a_key(page, scripted):
    scripted.key = "sk-right"
    await page.goto(scripted.url)
    await expect(page.locator("#live-note")).to_have_text("This server needs an API key.")
    await page.wait_for_timeout(4000)
    assert scripted.summaries == 1


async def test_the_live_strip_takes_statistics_in_the_place_of_a_mean(page, scripted):
    statistics = {"completion": {"mean": 8.0, "p50": 7.0, "p90": 12.0}}
    savings = {
        "shadow": {"savings_ratio": 0.41, "ci95": [0.35, 0.47]},
        "calibrated": {"savings_ratio": 0.5, "ci95": None},
        "none": {"savings_ratio": None},
    }
    more = {"tokens_per_answer": statistics, "steps_per_answer": {"mean": 2.5}, "savings": savings}
    scripted.efficiency = [EFFICIENCY | more]
    await page.goto(scripted.url)
    row = page.get_by_role("complementary").get_by_role("listitem")
    await expect(row).to_contain_text("8 tokens per answer")
    await expect(row).to_contain_text("2.5 steps each")
    await expect(row).to_contain_text("41 % saved (shadow, 95 % interval 35 % to 47 %) · 50 % saved (calibrated)")
