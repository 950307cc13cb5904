"""The page as people use it, in Chromium."""

from __future__ import annotations

import re

import pytest
from fixtures.callers import FIELD
from fixtures.in_browser import HOSTILE, expect, running

from smart_retrieval.server import ServerSettings

REFUSED = ("Failed to load resource",)  # what Chromium itself says of a status from 400 on


def ids(page):
    return [
        re.search(r"id=([^&]+)", one)[1] for one in page.locator(".why").evaluate_all("all => all.map(a => a.href)")
    ]


def wide(page):
    """Whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_hits_come_while_one_types(browse, keep):
    page = browse()
    assert page.title() == "Search notes"
    assert page.evaluate("document.activeElement.id") == "q"
    page.evaluate("window.same = true")
    page.locator("#q").press_sequentially("how do I rotate the logs", delay=25)
    page.wait_for_selector(".hit")
    expect(page).to_have_title(re.compile("^how do I rotate the logs"))
    assert page.evaluate("window.same")
    assert "q=how+do+I+rotate+the+logs" in page.url
    assert re.fullmatch(r"\d+ hits in \d+ documents · \d+ ms", page.locator("#status").inner_text())
    assert "rotate" in " ".join(page.locator("mark").all_inner_texts())
    assert page.locator(".hit .bar").first.is_visible()
    keep(page, "hits")
    page.reload()
    assert page.locator("#q").input_value() == "how do I rotate the logs"
    assert page.locator(".hit").count() > 3


def test_the_last_query_wins(browse):
    page = browse()
    waiting = []

    def slow(route):
        if "q=oak" in route.request.url and "fire" not in route.request.url:
            waiting.append(route)  # never answered
        else:
            route.continue_()

    page.route("**/*q=*", slow)
    page.fill("#q", "oak")
    expect(page.locator("html")).to_have_class("script busy")
    page.fill("#q", "oak firewood")
    page.wait_for_selector(".hit")
    assert waiting
    assert page.locator(".hit h2").first.inner_text() == "Firewood"
    assert not page.evaluate("document.documentElement.classList.contains('busy')")


def test_a_page_of_a_pdf_is_drawn_with_the_words_where_they_stand(browse, keep):
    page = browse("/?index=notes&q=run+logrotate+by+hand")
    hit = page.locator(".hit", has=page.get_by_role("heading", name="manual.pdf")).first
    hit.locator(".why").click()
    hit.locator(".explained").wait_for()
    assert hit.locator(".why").get_attribute("aria-expanded") == "true"
    stages = hit.locator(".stage")
    titles = [" ".join(stages.nth(one).locator(".word title").all_text_contents()) for one in range(stages.count())]
    number = next(number for number, said in enumerate(titles) if "hand" in said)
    box = stages.nth(number).bounding_box()
    tops = [(mark.bounding_box()["y"] - box["y"]) / box["height"] for mark in stages.nth(number).locator(".word").all()]
    # The line stands 682 points above the lower edge of a page of 792.
    assert any(abs(top - (1 - 692 / 792)) < 0.02 for top in tops), tops
    row = hit.locator("tr[data-q]", has_text="hand").first
    row.hover()
    assert hit.locator("mark.on").all_inner_texts() == ["hand"]
    hit.evaluate("one => one.scrollIntoView()")
    keep(page, "why")
    hit.locator(".why").click()
    assert hit.locator(".explained").count() == 0


def test_filters(browse):
    page = browse("/?index=notes&q=log+files")
    before = page.locator(".hit").count()
    page.get_by_role("link", name="tags: release").click()
    expect(page.locator(".hit")).to_have_count(1)
    assert page.locator("#where").input_value() == "tags = 'release'"
    assert page.locator("#filters").get_attribute("open") is not None
    page.get_by_role("link", name="Clear all").click()
    expect(page.locator(".hit")).to_have_count(before)
    page.locator("#filters summary").click()
    page.fill("#where", "source like '%.md' and not source like 'servers%'")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".hit")).to_have_count(2)
    page.fill("#where", "year > 3000")
    page.locator("#where").press("Enter")
    page.get_by_role("link", name="Search without it").wait_for()
    page.go_back()
    expect(page.locator(".hit")).to_have_count(2)


def test_errors_are_told_and_can_be_mended(browse):
    page = browse("/?index=notes&q=log+files", expected=REFUSED)
    page.locator("#filters summary").click()
    page.fill("#where", "year >")
    page.locator("#where").press("Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "where, column" in alert.inner_text()
    assert page.locator("#q").input_value() == "log files"
    page.fill("#where", "")
    page.locator("#where").press("Enter")
    page.wait_for_selector(".hit")
    assert alert.count() == 0
    page.route("**/*q=*", lambda route: route.abort())
    page.fill("#q", "backups")
    alert.wait_for()
    assert alert.inner_text() == "The server does not answer. Try again."
    page.unroute("**/*q=*")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_selector(".hit")
    page = browse("/?index=nothing&q=a", expected=REFUSED)
    assert "nothing" in page.get_by_role("alert").inner_text()


def test_a_picture_finds_itself_and_shows_where_it_matched(browse, indexes, keep):
    page = browse("/?index=shapes", color_scheme="dark")
    file = sorted((indexes / "shapes").iterdir())[3]
    page.locator("#upload summary").click()
    page.set_input_files("#image", file)
    page.wait_for_selector(".hit")
    assert page.locator(".hit h2 bdi").first.inner_text() == file.name
    assert page.locator("#picked img").is_visible()
    assert page.locator(".hit .thumb").first.evaluate("one => one.complete && one.naturalWidth > 0")
    page.locator(".why").first.click()
    page.locator(".explained .heat").first.wait_for()
    assert page.get_by_role("row", name="[picture]").count() == 1
    page.get_by_role("link", name="Remove it").click()
    page.fill("#q", "red square, blue star")
    expect(page).to_have_title(re.compile("^red square"))
    expect(page.locator(".hit a.why").first).to_be_visible()
    page.locator(".why").first.click()
    page.locator(".explained .heat").first.wait_for()
    heats = page.locator(".explained .heat:visible")
    assert heats.get_attribute("data-map") == "all"
    page.locator("tr[data-q]", has_text="square").hover()
    assert heats.get_attribute("data-map") != "all"
    assert page.locator(".explained .best:visible").count() == 1
    page.mouse.move(2, 2)
    page.locator(".hit").first.evaluate("one => one.scrollIntoView()")
    keep(page, "picture_dark")


def test_a_picture_may_be_pasted(browse, indexes):
    page = browse("/?index=shapes")
    page.evaluate("""async () => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 96;
      canvas.getContext("2d").fillRect(10, 10, 40, 40);
      const blob = await new Promise(done => canvas.toBlob(done));
      const data = new DataTransfer();
      data.items.add(new File([blob], "a.png", { type: "image/png" }));
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    }""")
    page.wait_for_selector(".hit")
    assert page.locator("#picked img").is_visible()


def test_two_hundred_hits(browse):
    page = browse("/?index=many&q=otter")
    for step in (20, 50, 100, 200):
        page.locator(".more").click()
        expect(page.locator(".hit")).to_have_count(step)
    assert page.locator(".more").count() == 0
    assert "k=200" in page.url
    assert page.evaluate("document.activeElement.className") == "hit"
    assert not wide(page)


def test_documents_stay_text(browse):
    page = browse(f"/?index=many&q={'rotate the logs'}&where=id+%3D+'<b>hostile</b>'")
    assert HOSTILE in page.locator(".hit").inner_text()
    assert page.locator(".hit script, .hit img, .hit i:not(.dot)").count() == 0
    page.locator(".why").click()
    page.locator(".explained").wait_for()
    assert HOSTILE in page.locator(".explained .whole").inner_text()
    assert page.title().startswith("rotate the logs")


def test_the_keyboard_is_enough(browse):
    page = browse()
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("/")
    page.keyboard.type("rotate the logs")
    page.wait_for_selector(".hit")
    expect(page).to_have_title(re.compile("^rotate the logs "))
    focused = "[...document.querySelectorAll('.hit')].indexOf(document.activeElement)"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == 1
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == 0
    page.keyboard.press("Enter")
    page.locator(".hit .explained").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert page.locator(".explained").count() == 0
    assert page.evaluate(focused) == 0
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("Escape")
    page.locator(".empty").wait_for()
    assert page.locator("#q").input_value() == ""
    page.keyboard.type("a/b")
    assert page.locator("#q").input_value() == "a/b"


@pytest.mark.parametrize("width", [320, 390])
def test_narrow_windows(browse, width):
    page = browse("/?index=notes&q=run+logrotate+by+hand&where=page+exists", viewport={"width": width, "height": 720})
    assert not wide(page)
    page.locator(".why").first.click()
    page.locator(".explained .stage").first.wait_for()
    assert not wide(page)
    assert page.locator("#q").bounding_box()["width"] > 120
    page = browse("/?index=shapes&q=red", viewport={"width": width, "height": 720})
    assert not wide(page)


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_can_be_read(browse, scheme):
    page = browse("/?index=notes&q=log+files&where=page+exists+or+year+exists", color_scheme=scheme)
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.05) == (scheme == "dark")
    for selector in (
        "h2",
        ".passage",
        ".place",
        ".parts",
        ".why",
        "#status",
        ".options summary",
        "#fields",
        "footer a",
    ):
        colour = page.locator(selector).first.evaluate("one => getComputedStyle(one).color")
        high, low = sorted((luminance(colour), ground), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (selector, colour)


def test_everything_has_a_name_for_those_who_listen(browse):
    page = browse("/?index=shapes&q=red+square&where=page+exists+or+source+exists")
    page.locator(".why").first.click()
    page.locator(".explained").wait_for()
    unnamed = page.evaluate("""() => [...document.querySelectorAll(
        "input:not([type=hidden]), select, button, a, summary, [role=img]")]
      .filter(one => !((one.labels && one.labels.length) || one.textContent.trim() || one.getAttribute("aria-label")))
      .map(one => one.outerHTML)""")
    assert unnamed == []
    tree = page.locator("body").aria_snapshot()
    for said in ("search", "searchbox", "status", "main", "article"):
        assert said in tree, said
    assert page.locator("[role=status]").count() == 1


def test_without_javascript(browse, indexes):
    page = browse(java_script_enabled=False)
    page.fill("#q", "run logrotate by hand")
    page.locator("#q").press("Enter")
    hit = page.locator(".hit", has=page.get_by_role("heading", name="manual.pdf")).first
    hit.locator(".why").click()
    assert page.locator("h1").inner_text().startswith("manual.pdf")
    assert page.locator(".stage .word").count() > 0
    page.get_by_role("link", name="Back to the hits").click()
    page.get_by_role("link", name="tags: release").click()
    assert page.locator(".hit").count() == 1
    assert not page.locator(".keys").is_visible()
    page.locator("select[name=index]").select_option("shapes")
    page.fill("#q", "")
    page.get_by_role("link", name="Clear all").click()
    page = browse("/?index=shapes", java_script_enabled=False)
    file = sorted((indexes / "shapes").iterdir())[5]
    page.locator("#upload summary").click()
    page.set_input_files("#image", file)
    page.get_by_role("button", name="Search by it").click()
    assert page.locator(".hit h2 bdi").first.inner_text() == file.name
    page.locator(".why").first.click()
    assert page.locator(".stage .heat").count() > 0
    page.get_by_role("button", name="Back to the hits").click()
    page.fill("#q", "red")
    page.locator("#q").press("Enter")
    assert "and these words" in page.locator("#picked").inner_text()
    page.get_by_role("link", name="Remove it").click()
    assert page.locator("#picked").is_hidden()
    assert page.locator("#q").input_value() == "red"


@pytest.mark.parametrize("script", [True, False])
def test_logging_in_and_out(browse, indexes, tmp_path, script):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{'t' * 20} read\n")
    tokens.chmod(0o600)
    with running([indexes / "many.smart"], ServerSettings(token_file=tokens, tenant_field=FIELD)) as at:
        page = browse("/?q=otter&k=20", at=at, expected=REFUSED, java_script_enabled=script)
        if script:  # the browser focuses a field after it has drawn the page
            page.wait_for_function("document.activeElement.id == 'token'")
        page.fill("#token", "wrong" * 5)
        page.get_by_role("button", name="Log in").click()
        assert "not known" in page.get_by_role("alert").inner_text()
        page.fill("#token", "t" * 20)
        page.get_by_role("button", name="Log in").click()
        assert page.locator(".hit").count() == 20
        assert page.url == f"{at}/?q=otter&k=20"
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        if script:
            assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Log out").click()
        assert page.locator("#token").is_visible()
        assert page.context.cookies() == []
