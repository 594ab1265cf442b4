"""Both themes, a desk and a phone: nothing sticks out, and axe-core finds nothing serious."""

import pytest
from axe_playwright_python.async_playwright import Axe
from lane import Lane
from playwright.async_api import expect
from scripted_server import END, answer, end, thinking

SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}
THEMES = ("light", "dark")
GRAVE = {"serious", "critical"}


@pytest.fixture(params=SIZES)
def size(request):
    return SIZES[request.param]


@pytest.fixture(params=THEMES)
def theme(request):
    return request.param


@pytest.fixture
async def context(browser, size, theme):
    """``bypass_csp``: axe-core itself makes markup, which the page's policy forbids to all scripts."""
    context = await browser.new_context(viewport=size, color_scheme=theme, bypass_csp=True)
    yield context
    await context.close()


async def violations(page):
    found = (await Axe().run(page)).response["violations"]
    return {each["id"]: [node["html"] for node in each["nodes"]] for each in found if each["impact"] in GRAVE}


async def overflow(page):
    """How many pixels the page is wider than the screen."""
    return await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


async def test_before_a_question(page, scripted):
    await page.goto(scripted.url)
    await expect(page.get_by_role("button", name="Ask")).to_be_enabled()
    assert await violations(page) == {}
    assert await overflow(page) == 0


async def test_with_answers_side_by_side_an_error_and_the_key(page, scripted):
    word = "incomprehensibilities" * 8
    scripted.script = [thinking(f"Two {word}. ", 3), thinking("Wait, two.", 6), answer(word, 8), end(), END]
    await page.goto(scripted.url)
    await page.get_by_text("API key", exact=True).first.click()
    await page.get_by_label("Side by side").check()
    await page.get_by_label("Question").fill("What is one and one?")
    await page.get_by_role("button", name="Ask").click()
    await expect(Lane(page.get_by_role("region", name="Second answer")).answer).to_have_text(word)
    await expect(page.locator("#difference")).to_contain_text("No difference")
    assert await violations(page) == {}
    assert await overflow(page) == 0
    scripted.refusal = (500, {"error": {"message": f"{word} failed."}}, {})
    await page.get_by_role("button", name="Ask").click()
    await expect(page.get_by_role("alert").filter(has_text="failed").first).to_be_visible()
    assert await violations(page) == {}
    assert await overflow(page) == 0


async def test_the_theme_is_the_readers(page, scripted, theme):
    await page.goto(scripted.url)
    background, text = await page.evaluate(
        "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])"
    )
    luminance = [sum(int(part) for part in colour[4:-1].split(",")) / 3 for colour in (background, text)]
    assert (luminance[0] > luminance[1]) == (theme == "light")
    assert abs(luminance[0] - luminance[1]) > 150


async def test_two_answers_stand_side_by_side_only_where_there_is_room(page, scripted, size):
    await page.goto(scripted.url)
    await page.get_by_label("Side by side").check()
    first, second = [
        await page.get_by_role("region", name=name, exact=True).bounding_box() for name in ("Answer", "Second answer")
    ]
    assert (first["y"] == second["y"]) == (size["width"] > 1000)
    assert first["width"] > 300


async def test_the_two_exit_controls_stand_in_one_row_where_there_is_room(page, scripted, size):
    await page.goto(scripted.url)
    await page.get_by_label("Side by side").check()
    answer = page.get_by_role("region", name="Answer", exact=True)
    budget, early = [await answer.get_by_text(name).bounding_box() for name in ("Step budget", "Early exit")]
    assert (budget["y"] == early["y"]) == (size["width"] > 1000)


async def test_every_control_is_large_enough_to_touch(page, scripted):
    await page.goto(scripted.url)
    await page.get_by_text("API key", exact=True).first.click()
    for control in await page.locator("button, select, summary, label.toggle, input:not([role=switch])").all():
        if await control.is_visible():
            box = await control.bounding_box()
            assert box["height"] >= 24, await control.evaluate("element => element.outerHTML")
