"""The page as a browser without JavaScript gets it: forms, links, everything escaped, nothing inline."""

from __future__ import annotations

import re
from base64 import b64encode
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from urllib.parse import urlencode

import pytest
from fixtures.callers import FIELD
from fixtures.pictures import picture, visual_model, write_pdf
from fixtures.tiny_models import TEXTS
from starlette.testclient import TestClient

from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.server import ServerSettings, create_app

TOKENS = {"admin": "a" * 20 + '%41;"ü€', "acme": "c" * 20, "beta": "b" * 20}
FORM = "application/x-www-form-urlencoded"
HOSTILE = "<script>alert(1)</script> the otter <img src=x onerror=alert(2)> swims"


class Seen(HTMLParser):
    """What a page holds: tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data

    def all(self, tag, **wanted):
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and all(value in (attrs.get(key) or "").split() for key, value in wanted.items())
        ]


def opened(*folders, **settings):
    app = create_app(list(folders), ServerSettings(**settings))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def client(folder):
    with opened(folder) as client:
        yield client


@pytest.fixture
def guarded(folder, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("\n".join(f"{token} write {'' if name == 'admin' else name}" for name, token in TOKENS.items()))
    path.chmod(0o600)
    with opened(folder, token_file=path, tenant_field=FIELD) as client:
        yield client


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """An index of pictures and pages, and one text."""
    folder = tmp_path_factory.mktemp("page") / "scans"
    folder.mkdir()
    picture(1).save(folder / "one.png")
    picture(2).save(folder / "two.png")
    write_pdf(folder / "report.pdf", 2)
    path = folder.with_suffix(".smart")
    with SmartIndex.create(path, visual_model(folder.parent), files_as="pages", codec="float32") as index:
        index.index_folder(folder)
        index.add(["squares of colour"], ids=["words"])
    return path


def test_the_page_without_a_query_says_what_to_do(client):
    answer = client.get("/")
    seen = Seen(answer.text)
    assert answer.status_code == 200
    assert "Search 17 documents" in seen.text
    assert seen.all("form", role="search")[0]["method"] == "get"
    labelled = {attrs["for"] for attrs in seen.all("label") if attrs.get("for")}
    assert {"q", "where"} <= labelled
    assert not seen.all("input", type="file")  # a text model takes no picture
    for path in [attrs["href"] for attrs in seen.all("link")] + [attrs["src"] for attrs in seen.all("script")]:
        assert client.get(f"/{path}").status_code == 200, path


def test_hits_have_their_words_shaded_and_their_scores_taken_apart(tmp_path, smart):
    path = tmp_path / "paper.smart"
    with SmartIndex.create(path, smart("mean", preset="paper"), codec="float32") as index:
        index.add(TEXTS, ids=[f"d{n}" for n in range(17)], metadata=[{"number": n} for n in range(17)])
        wanted = index.search("the otter swims", 5, where="number < 12")
    with opened(path) as client:
        answer = client.get("/", params={"q": "the otter swims", "k": 5, "where": "number < 12"})
    seen = Seen(answer.text)
    links = [attrs["href"] for attrs in seen.all("a", **{"class": "why"})]
    assert [re.search(r"id=([^&]+)", link)[1] for link in links] == [hit.id for hit in wanted]
    bars = [attrs["aria-label"] for attrs in seen.all("svg", **{"class": "bar"})]
    late = wanted[0].score - wanted[0].anchor
    assert bars[0] == f"Score {wanted[0].score:.3f}: anchor {wanted[0].anchor:.3f}, late {late:.3f}"
    assert seen.all("mark", **{"class": "s8"})
    assert "5 hits in 12 of 17 documents" in seen.text
    assert seen.all("a", **{"class": "more"})[0]["data-k"] == "10"


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(client, scans):
    pages = [client.get("/"), client.get("/", params={"q": "otter"}), client.get("/why", params={"q": "a", "id": "d0"})]
    with opened(scans) as other:
        pages += [other.get("/", params={"q": "red"}), other.get("/why", params={"q": "red", "id": "one.png#image"})]
    for answer in [*pages, client.get("/docs")]:
        assert answer.status_code == 200
        assert "unsafe" not in answer.headers["content-security-policy"]
        for tag, attrs in Seen(answer.text).tags:
            assert not [name for name in attrs if name == "style" or name.startswith("on")], tag
            assert tag != "style"
            assert tag != "script" or attrs.get("src", "").startswith("assets/")
            loaded = attrs.get("src") or (attrs.get("href") if tag in ("link", "image") else "") or ""
            assert not re.match(r"(?!data:image/)\w+:|//", loaded), loaded


def test_documents_are_shown_as_text(folder):
    with SmartIndex.open(folder) as index:
        metadata = {"<b>key</b>": "'\"><script>", "link": "javascript:alert(3)", "lists": ["<i>", 1, True, None, {}]}
        index.add(
            [HOSTILE], ids=['<svg onload="alert(4)">'], metadata=[metadata], sources=["javascript:alert(5)"],
            headings=["<h1> > </h2><script>"],
        )  # fmt: skip
        index.add(["the otter swims home"], ids=["web"], sources=["https://example.org/a?b=<c>"])
    with opened(folder) as client:
        asked = {"q": "<script>alert(0)</script> otter", "k": 20}
        page = client.get("/", params=asked)
        (why,) = [attrs["href"] for attrs in Seen(page.text).all("a", **{"class": "why"}) if "svg" in attrs["href"]]
        for answer in (page, client.get(f"/{why}"), client.get("/", params={**asked, "where": "'\"><script>"})):
            seen = Seen(answer.text)
            assert {attrs["src"] for attrs in seen.all("script")} <= {"assets/page.js"}
            assert not seen.all("img")
            assert not [a for a in seen.all("a") if (a.get("href") or "").startswith(("javascript:", "data:"))]
            assert seen.all("a", href="https://example.org/a?b=<c>") or answer is not page
        assert HOSTILE in Seen(page.text).text
        hrefs = [a["href"] for a in Seen(page.text).all("a") if "where=" in (a.get("href") or "")]
        narrowed = [href for href in hrefs if not re.search(r"where=(team|number)\+", href)]
        assert len(narrowed) == 5
        for href in narrowed:
            found = client.get(f"/{href}")
            assert found.status_code == 200
            assert "in 1 of 19 documents" in Seen(found.text).text, href


def test_errors_are_told_on_the_page(client):
    for params, status, said in [
        ({"q": "otter", "where": "number >"}, 400, "where, column"),
        ({"q": "otter", "kind": "cats"}, 400, "expected one of text, image, page, video"),
        ({"q": "otter", "k": "5000"}, 400, "k: found 5000"),
        ({"q": "otter", "k": "0x"}, 200, "10 hits in 17"),
        ({"q": "otter", "index": "land"}, 404, "land"),
        ({"q": "otter", "rerank": "1"}, 400, "no reranker"),
        ({"q": "\ud800 otter", "where": "number = 1"}, 200, "1 hit in 1 of 17"),
        ({"q": "otter", "where": "number > 900"}, 200, "No document passes the filter."),
    ]:
        answer = client.get(f"/?{urlencode(params, errors='surrogatepass')}")
        assert answer.status_code == status, params
        seen = Seen(answer.text)
        assert said in seen.text, params
        assert bool([a for _, a in seen.tags if a.get("role") == "alert"]) == (status >= 400)
    missing = client.get("/why", params={"q": "otter", "id": "nothing"})
    assert missing.status_code == 404
    assert "found no document 'nothing'" in unescape(missing.text)
    assert client.get("/thumbnail", params={"index": "sea", "id": "d0"}).status_code == 404


def test_an_index_without_documents_and_one_that_is_gone(tmp_path, smart):
    path = tmp_path / "empty.smart"
    SmartIndex.create(path, smart("mean"), codec="float32").close()
    with opened(path) as client:
        assert "Nothing to search yet" in client.get("/").text
        assert "holds no document" in client.get("/", params={"q": "otter"}).text
    with opened(tmp_path / "gone.smart", path) as client:
        answer = client.get("/")
        assert answer.status_code >= 400
        assert str(tmp_path) not in answer.text
        assert "gone" in Seen(answer.text).text
        assert [attrs["value"] for attrs in Seen(answer.text).all("option") if "value" in attrs] == ["gone", "empty"]
        assert client.get("/", params={"index": "empty"}).status_code == 200


def test_pictures_are_searched_by_pictures_and_kinds(scans):
    data = BytesIO()
    picture(1).save(data, "PNG")
    with opened(scans) as client:
        home = Seen(client.get("/").text)
        assert home.all("input", type="file")
        assert [attrs["value"] for attrs in home.all("input", name="kind")] == ["text", "image", "page"]
        pages = client.get("/", params=[("q", "red"), ("kind", "page")])
        assert "2 hits in 2 of 5 documents" in pages.text
        both = Seen(client.get("/", params=[("q", "red"), ("kind", "image"), ("kind", "text")]).text)
        assert len(both.all("article")) == 3
        thumbnails = [attrs["src"] for attrs in both.all("img", **{"class": "thumb"})]
        assert len(thumbnails) == 2
        for path in thumbnails:
            answer = client.get(f"/{path}")
            assert answer.headers["content-type"] in ("image/webp", "image/jpeg")
        # A picture, and then words with it: the page hands the picture back to the form.
        found = client.post("/", data={"k": "10"}, files={"image": ("a.png", data.getvalue(), "image/png")})
        assert found.status_code == 200
        seen = Seen(found.text)
        first = seen.all("button", **{"class": "why"})[0]
        assert first["value"] == "one.png#image"
        kept = seen.all("input", name="picture")[0]["value"]
        assert kept == b64encode(data.getvalue()).decode()
        with_words = client.post("/", data={"q": "red", "picture": kept}, files={"image": ("", b"", "")})
        assert "and these words" in with_words.text
        why = client.post("/why", data={"picture": kept, "id": first["value"]})
        assert why.status_code == 200
        assert "[picture]" in why.text
        assert Seen(why.text).all("image", **{"class": "heat"})
        assert 'name="picture"' not in client.post("/", data={"part": "1", "picture": kept}).text
        for wrong in ({"picture": "!!"}, {"picture": b64encode(b"no picture").decode()}):
            answer = client.post("/", data=wrong)
            assert answer.status_code == 400
            assert 'role="alert"' in answer.text


def test_a_page_of_a_pdf_is_drawn_with_its_words_marked(tmp_path, smart):
    folder = tmp_path / "files"
    folder.mkdir()
    write_pdf(folder / "report.pdf", 2)
    with SmartIndex.create(tmp_path / "files.smart", smart("mean"), codec="float32") as index:
        index.index_folder(folder)
    with opened(tmp_path / "files.smart") as client:
        hits = Seen(client.get("/", params={"q": "otters"}).text)
        why = client.get("/" + hits.all("a", **{"class": "why"})[0]["href"])
        seen = Seen(why.text)
        assert seen.all("svg", **{"class": "stage"})
        words = seen.all("rect", **{"class": "word"})
        assert words
        assert all(0 <= float(word["x"].rstrip("%")) <= 100 for word in words)
        assert str(tmp_path) not in why.text


def test_who_has_no_token_sees_a_form_and_comes_back_with_a_cookie(guarded):
    asked = guarded.get("/", params={"q": "otter", "k": "20"})
    seen = Seen(asked.text)
    assert asked.status_code == 401
    assert seen.all("input", type="password")
    assert "otter swims" not in asked.text
    following = seen.all("input", name="next")[0]["value"]
    assert guarded.get("/why", params={"q": "a", "id": "d0"}).status_code == 401
    assert guarded.get("/thumbnail", params={"index": "sea", "id": "d0"}).status_code == 401
    wrong = guarded.post("/login", data={"token": "x" * 20, "next": following})
    assert wrong.status_code == 401
    assert 'role="alert"' in wrong.text
    assert "set-cookie" not in wrong.headers
    right = guarded.post("/login", data={"token": TOKENS["acme"], "next": following})
    assert right.status_code == 303
    assert right.headers["location"] == "/?q=otter&k=20"
    cookie = right.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Secure" not in cookie
    assert "9 hits" in guarded.get(right.headers["location"]).text
    guarded.post("/logout")
    assert guarded.get("/").status_code == 401
    guarded.post("/login", data={"token": TOKENS["admin"]})
    assert "Search 17 documents" in guarded.get("/").text
    guarded.post("/logout")
    secure = guarded.post("https://localhost/login", data={"token": TOKENS["acme"]})
    assert "Secure" in secure.headers["set-cookie"]


def test_nobody_is_sent_elsewhere_after_logging_in(guarded):
    for following in ("//evil.example", "https://evil.example/", "\r\nSet-Cookie: a=b", "/\\evil.example", "?q=1#//x"):
        answer = guarded.post("/login", data={"token": TOKENS["acme"], "next": following})
        assert re.fullmatch(r"/(\?[\w=&%+.#-]*)?", answer.headers["location"]), following


def test_forms_of_other_sites_change_nothing(guarded):
    guarded.post("/login", data={"token": TOKENS["acme"]})
    for origin in ("https://evil.example", "null", "http://localhost:1234"):
        headers = {"Origin": origin}
        assert guarded.post("/login", data={"token": TOKENS["beta"]}, headers=headers).status_code == 403
        body = {"documents": [{"text": "otter"}]}
        assert guarded.post("/v1/indexes/sea/documents", json=body, headers=headers).status_code == 403
    # What a browser sends from the page itself: its Origin is known because of the Referrer-Policy.
    assert guarded.get("/").headers["referrer-policy"] == "same-origin"
    assert guarded.post("/logout", headers={"Origin": "http://localhost"}).status_code == 303


def test_a_tenant_sees_its_own_on_the_page(guarded):
    guarded.post("/login", data={"token": TOKENS["acme"]})
    page = guarded.get("/", params={"q": "otter", "k": 20, "where": f"{FIELD} = 'beta' or number exists"})
    ids = re.findall(r"id=(d\d+)", page.text)
    assert set(ids) == {f"d{number}" for number in range(0, 17, 2)}
    assert guarded.get("/why", params={"q": "otter", "id": "d1"}).status_code == 404
    assert guarded.get("/thumbnail", params={"index": "sea", "id": "d1"}).status_code == 404
    assert "Search 9 documents" in guarded.get("/").text


def test_no_request_is_an_error_of_the_server(client):
    odd = (
        "",
        "\0",
        "\ud800",
        "x" * 30_000,
        "../../etc/passwd",
        "'\"><script>",
        "%00",
        "\u202e",
        "' or 1 = 1",
        "-1",
        "1e9",
    )
    for path in ("/", "/why", "/thumbnail"):
        for name in ("q", "index", "where", "kind", "k", "id", "picture"):
            for value in odd:
                given = {"q": "otter", "id": "d0", "index": "sea", name: value}
                asked = [client.get(f"{path}?{urlencode(given, errors='surrogatepass')}")]
                if path != "/thumbnail":
                    body = urlencode(given, errors="surrogatepass").encode()
                    asked.append(client.post(path, content=body, headers={"content-type": FORM}))
                for answer in asked:
                    assert answer.status_code in (200, 400, 404), (path, name, value[:20], answer.text[:200])
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=a", "text/plain"):
        for path in ("/", "/why", "/login", "/logout"):
            answer = client.post(path, content=b"--a\r\n\x00{", headers={"content-type": kind})
            assert answer.status_code < 500, (kind, path)
    assert client.get("/assets/../routes.py").status_code == 404
    assert client.get("/assets/%2e%2e/routes.py").status_code == 404
