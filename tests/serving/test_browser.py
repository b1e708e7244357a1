"""The pages in Chromium, as people use them: by pointer, by keyboard, without a connection."""

import asyncio
import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from playwright.sync_api import sync_playwright

from metajax.serving import Item
from metajax.serving.app import app_of
from metajax.serving.service import Service

pytestmark = pytest.mark.slow

HTML = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
ARABIC = "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645"
LONG = "Verylongtitlewithoutanyspace" * 8


@contextlib.contextmanager
def listening(service):
    """Serves on a free port; yields the address, and a function that stops the server."""
    place = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app_of(service), log_config=None, lifespan="off", access_log=False)
    )
    # Its own loop, as Playwright has one in this thread.
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([place])))
    thread.start()

    def stop():
        server.should_exit = True
        server.force_exit = True
        thread.join()
        place.close()

    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}", stop
    finally:
        stop()


@pytest.fixture
def new_log(tmp_path):
    """One kind of store: what a page shows does not depend on it."""
    return lambda: f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture(scope="module")
def chromium():
    """A browser; where there is none, its tests are skipped."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened(NamedTuple):
    """A service, and a function that opens a page of it."""

    service: Service
    page: Callable[..., Any]


@pytest.fixture
def opened(chromium, serve, scorer, request):
    """Opens pages of a service; afterwards none may have run into an error."""
    service, _ = serve(beside={"knn": "folder"}, others={"knn": scorer})
    names = {"html": HTML, "arabic": ARABIC, "long": LONG}
    for name, title in names.items():
        service.put_item(name, Item(content={"title": title, "class": "Drama"}))
    errors, contexts = [], []
    with listening(service) as (address, _):

        def go(path="/", **options):
            context = chromium.new_context(
                **{"viewport": {"width": 1200, "height": 900}, **options}
            )
            contexts.append(context)
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(address + path)
            return page

        yield Opened(service, go)
        for context in contexts:
            context.close()
    assert errors == []


def rows(page, list_id="#columns"):
    return page.locator(f"{list_id} li")


def until(page, condition):
    """Waits for an expression; Playwright's way needs `eval`, which the policy forbids."""
    wait_for(lambda: page.evaluate(condition))


def settled(page):
    until(
        page,
        "document.querySelectorAll('#columns li').length"
        " && !document.querySelector('#columns').hasAttribute('aria-busy')"
        " && document.querySelector('#told').textContent.startsWith('The list is up')",
    )


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def events(service):
    return [event for _, event in service.store.events()]


def screenshot(page, name):
    """Keeps a picture where somebody asks for it."""
    folder = Path("/tmp/metajax-pages")
    if folder.is_dir():
        page.screenshot(path=folder / f"{name}.png", full_page=True)


def test_somebody_rates_titles_and_is_forgotten(opened):
    page = opened.page()
    settled(page)
    assert rows(page).count() == 10
    before = rows(page).all_inner_texts()
    assert "Expected rating" in before[0]
    assert "standard error" in before[0]
    first = rows(page).nth(0)
    item = first.get_attribute("data-item")
    first.get_by_role("button", name="Rate 5").click()
    until(page, f"!document.querySelector('#columns [data-item=\"{item}\"]')")
    settled(page)
    (event,) = events(opened.service)
    assert (event.item, event.kind, event.value) == (item, "rating", 5.0)
    answer = opened.service.store.answer(event.recommendation_id)
    assert (answer.items[0].item, answer.scenario) == (item, "page")
    texts = " ".join(rows(page).all_inner_texts())
    assert "Because of" in texts
    assert "new" in texts
    pressed = page.locator("#mine button[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["5"]
    page.get_by_label("Part of a title").fill("film 1")
    page.locator("#found li").first.wait_for()
    assert page.locator("#found-count").inner_text() == "8 found"
    page.locator("#found li").first.get_by_role("button", name="Dislike").click()
    wait_for(lambda: len(events(opened.service)) == 2)
    page.get_by_label("Beside it").select_option("thompson")
    until(page, "document.querySelectorAll('#columns ol').length === 2")
    assert page.locator("#columns h3").all_inner_texts() == ["greedy", "thompson"]
    page.get_by_label("Beside it").select_option("model knn")
    until(page, "document.querySelectorAll('#columns h3')[1].textContent === 'knn'")
    assert page.locator("#columns ol").count() == 2
    screenshot(page, "rated")
    page.reload()
    settled(page)
    assert page.locator("#mine li").count() == 2
    user = events(opened.service)[0].user
    page.get_by_role("button", name="Forget me").click()
    page.get_by_role("button", name="Keep it").click()
    assert len(events(opened.service)) == 2
    page.get_by_role("button", name="Forget me").click()
    screenshot(page, "sure")
    page.get_by_role("button", name="Delete everything").click()
    page.locator("#none").wait_for()
    settled(page)
    assert events(opened.service) == []
    assert opened.service.store.is_deleted(user)
    assert page.locator("#mine li").count() == 0


def test_titles_are_text_whatever_they_hold(opened):
    for scheme, width in (("light", 1200), ("dark", 360)):
        page = opened.page(color_scheme=scheme, viewport={"width": width, "height": 800})
        settled(page)
        for text, title in (("<img", HTML), (ARABIC.split()[0], ARABIC), ("verylong", LONG)):
            page.get_by_label("Part of a title").fill(text)
            found = page.locator("#found .title")
            wait_for(lambda: found.all_inner_texts() == [title])  # noqa: B023
            page.locator("#found").get_by_role("button", name="Like", exact=True).click()
            settled(page)
        screenshot(page, f"titles-{scheme}")
        assert page.title() == "Recommendations"
        assert page.locator("#mine img, #mine script").count() == 0
        direction = (
            "getComputedStyle(document.querySelector('#mine [data-item=arabic] bdi')).direction"
        )
        assert page.evaluate(direction) == "rtl"
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) == 0
        small = """[...document.querySelectorAll('button, input, select')].filter((one) => {
            const box = one.getBoundingClientRect();
            return box.width && (box.height < 44 || box.width < 44);
        }).length"""
        assert page.evaluate(small) == 0


def contrast(page, selector):
    """Contrast of a text with the first opaque background below it, by WCAG 2."""
    return page.evaluate(
        """(selector) => {
        const light = (text) => {
            const part = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
                .map((one) => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4);
            return .2126 * part[0] + .7152 * part[1] + .0722 * part[2];
        };
        let one = document.querySelector(selector);
        const ink = light(getComputedStyle(one).color);
        while (getComputedStyle(one).backgroundColor.endsWith(", 0)")) one = one.parentElement;
        const paper = light(getComputedStyle(one).backgroundColor);
        return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    }""",
        selector,
    )


def test_the_page_works_by_keyboard_and_is_legible(opened):
    for scheme in ("light", "dark"):
        page = opened.page(color_scheme=scheme)
        settled(page)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the list"
        page.keyboard.press("Enter")
        for _ in range(3):
            page.keyboard.press("Tab")
        name = "document.activeElement.getAttribute('aria-label')"
        assert page.evaluate(name) == "Rate 1"
        count = len(events(opened.service))
        page.keyboard.press("Space")
        wait_for(lambda: len(events(opened.service)) == count + 1)  # noqa: B023
        settled(page)
        # The focus stays in the list.
        assert page.evaluate("document.activeElement.closest('#columns') !== null")
        for selector in ("h1", ".soft", "#mine button[aria-pressed=true]", "#columns .soft"):
            assert contrast(page, selector) >= 4.5, (scheme, selector)
        unnamed = """[...document.querySelectorAll('button, input, select')].filter((one) =>
            !one.textContent.trim() && !one.getAttribute('aria-label') && !one.labels?.length)"""
        assert page.evaluate(f"{unnamed}.length") == 0


def test_what_was_rated_without_a_connection_is_sent_once_it_is_back(opened):
    page = opened.page()
    settled(page)
    page.context.set_offline(True)
    rows(page).nth(0).get_by_role("button", name="Rate 4").click()
    page.get_by_text("There is no connection to the service. 1 rating waits").wait_for()
    screenshot(page, "lost")
    assert events(opened.service) == []
    # Kept over a reload too: it is in the storage of the browser.
    assert "rating" in page.evaluate("localStorage.getItem('metajax.waiting')")
    page.context.set_offline(False)
    wait_for(lambda: len(events(opened.service)) == 1)
    page.locator("#lost").wait_for(state="hidden")
    assert page.evaluate("localStorage.getItem('metajax.waiting')") == "[]"


def test_a_slow_service_shows_that_it_works_and_the_newest_wish_counts(opened):
    page = opened.page()
    settled(page)
    page.route("**/recommendations?*", lambda route: (time.sleep(0.3), route.continue_()))
    page.get_by_label("Policy").select_option("thompson")
    assert page.locator("#columns").get_attribute("aria-busy") == "true"
    page.get_by_label("Policy").select_option("epsilon_greedy")
    until(page, "document.querySelector('#columns h3').textContent === 'epsilon_greedy'")
    settled(page)
    assert page.locator("#lost").is_hidden()


def test_a_page_asks_for_the_key_and_the_operator_sees_figures(chromium, serve):
    service, _ = serve(api_key="k" * 20, admin_key="a" * 20)
    service.put_item("html", Item(content={"title": HTML}))
    with listening(service) as (address, stop):
        context = chromium.new_context(viewport={"width": 1200, "height": 900})
        page = context.new_page()
        page.goto(address)
        page.get_by_label("Key of this service").fill("k" * 20)
        page.get_by_role("button", name="Use the key").click()
        settled(page)
        assert page.locator("#key").is_hidden()
        rows(page).nth(0).get_by_role("button", name="Like", exact=True).click()
        wait_for(lambda: len(events(service)) == 1)
        page.goto(address + "/operator")
        page.get_by_label("Key of administration").fill("a" * 20)
        page.get_by_role("button", name="Use the key").click()
        page.locator("#arms tr").first.wait_for()
        assert "1 event in the last hour" in page.locator("#minutes-text").inner_text()
        assert page.locator("#minutes rect").count() == 60
        assert page.locator("#arms th").all_inner_texts() == ["all"]
        assert page.locator("#new th").all_inner_texts() == [HTML]
        assert page.locator("#success tr").count() >= 1
        assert contrast(page, ".soft") >= 4.5
        screenshot(page, "operator")
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 360, "height": 800})
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) == 0
        screenshot(page, "operator-dark")
        stop()
        page.get_by_text("There is no connection to the service").wait_for()
        context.close()
