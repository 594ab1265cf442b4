"""A real headless Chromium, the page of the real server, and a scripted server for what that one never says."""

from collections.abc import AsyncIterator, Iterator

import pytest
from chromium import chromium
from lane import Lane
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect
from pydantic import HttpUrl
from real_server import Server
from scripted_server import ScriptedServer

from server.web import WebPage

PATIENCE = 30_000
"""Milliseconds to wait for anything: a busy machine is slow, and none of the tests is about speed."""

expect.set_options(timeout=PATIENCE)

EXPECTED = ("Failed to load resource", "net::ERR_")
"""What the browser itself says of a refused request."""


@pytest.fixture(scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One for the tests of a module."""
    async with chromium(tmp_path_factory.mktemp("browser")) as url, async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(url)
        yield browser
        await browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complains of; a test that expects something takes it out."""
    return []


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile."""
    context = await browser.new_context()
    context.set_default_timeout(PATIENCE)
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext, complaints: list[str]) -> AsyncIterator[Page]:
    """A tab in which no script may fail, nor anything break the Content-Security-Policy."""
    page = await context.new_page()

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(known in message.text for known in EXPECTED):
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []


@pytest.fixture
def lane(page: Page) -> Lane:
    """The first answer."""
    return Lane(page.get_by_role("region", name="Answer", exact=True))


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server that says what a test tells it to."""
    with ScriptedServer().running() as server:
        yield server


@pytest.fixture
def scripted_beside_real(server: Server) -> Iterator[ScriptedServer]:
    """A scripted server whose page offers the real server as the second one."""
    scripted = ScriptedServer()
    scripted.page = WebPage(markers=("Wait",), compare_url=HttpUrl(server.url))
    with scripted.running() as running:
        yield running


@pytest.fixture
def second_scripted() -> Iterator[tuple[ScriptedServer, ScriptedServer]]:
    """A scripted server whose page offers another one as the second; returns both."""
    with ScriptedServer().running() as other:
        scripted = ScriptedServer()
        scripted.page = WebPage(markers=("Wait",), compare_url=HttpUrl(other.url))
        with scripted.running() as running:
            yield running, other
