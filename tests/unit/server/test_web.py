"""The web page's files and headers; what it does in a browser is specified in tests/e2e."""

import re
from html.parser import HTMLParser

import httpx
import pytest
from fastapi import FastAPI
from pydantic import HttpUrl

from server.settings import InvalidSettingsError, load_settings
from server.web import ASSETS, FOLDER, PATHS, WebPage, content_security_policy, web_routes

UNSAFE = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage|cookie")


def client(page=None):
    app = FastAPI()
    app.include_router(web_routes(page or WebPage()))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")


class Attributes(HTMLParser):
    """Every attribute of a document, and the text of its scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.inline = ""
        self.tag = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        self.found += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        self.tag = ""

    def handle_data(self, data):
        if self.tag in ("script", "style"):
            self.inline += data


async def test_the_page_may_run_and_reach_only_what_is_its_own():
    response = await client().get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "trusted-types": "'none'",
    }


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("https://base.example/some/path", "https://base.example:443"),
    ],
)
def test_a_compared_server_may_be_reached_too(url, origin):
    assert f"connect-src 'self' {origin};" in content_security_policy(WebPage(compare_url=url).compare_url)


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_every_path_answers_and_is_never_taken_for_something_else(path):
    async with client() as http:
        response = await http.get(path)
        assert response.status_code == 200
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/web/app.js", "text/javascript; charset=utf-8"),
        ("/web/style.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
    ],
)
async def test_media_types(path, media_type):
    response = await client().get(path)
    assert response.headers["content-type"] == media_type
    assert response.content == ASSETS[path].read_bytes()


@pytest.mark.parametrize("path", ["/web", "/web/", "/web/index.html", "/web/../web.py", "/web/%2e%2e/web.py"])
async def test_nothing_else_is_served(path):
    assert (await client().get(path)).status_code == 404


async def test_the_page_learns_the_markers_and_the_compared_server():
    page = WebPage(markers=("Wait",), compare_url="http://127.0.0.1:8001")
    assert (await client(page).get("/web/page.json")).json() == {
        "markers": ["Wait"],
        "compare_url": "http://127.0.0.1:8001/",
    }


def test_the_document_has_nothing_inline_and_nothing_from_elsewhere():
    document = Attributes((FOLDER / "index.html").read_text())
    assert document.inline.strip() == ""
    assert [name for name, _ in document.found if name == "style" or name.startswith("on")] == []
    links = [value for name, value in document.found if name in ("src", "href", "action")]
    assert links
    assert all(f"/{link}" in ASSETS for link in links), "relative, so that a proxy may put the page anywhere"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.js")), ids=lambda file: file.name)
def test_scripts_make_no_markup_and_keep_nothing_beyond_the_tab(file):
    assert UNSAFE.findall(file.read_text()) == []


def test_only_a_web_address_can_be_compared():
    assert load_settings({"compare_url": "http://127.0.0.1:8001"}).compare_url == HttpUrl("http://127.0.0.1:8001")
    with pytest.raises(InvalidSettingsError, match="compare_url"):
        load_settings({"compare_url": "javascript:alert(1)"})
