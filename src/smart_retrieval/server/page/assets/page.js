// Makes the page quick: results while one types, explanations in place, keys. Without it, everything works by forms.
"use strict";
(function () {
  const form = document.getElementById("search"), results = document.getElementById("results");
  const status = document.getElementById("status"), root = document.documentElement;
  root.classList.add("script");
  shown(document);
  if (!form) return;
  const field = form.elements.q, image = document.getElementById("image"), picked = document.getElementById("picked");
  const WAIT = 180; // milliseconds without a key before a search
  let timer = 0, running = null, last = address();

  // -- searching -----------------------------------------------------------------------------------------------------

  function picture() { return Boolean((image && image.files.length) || form.elements.picture); }

  function address() {
    const given = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (typeof value === "string" && value.trim() && name !== "picture" && !(name === "k" && value === "10")) given.append(name, value);
    }
    const text = given.toString();
    return text ? "./?" + text : "./";
  }

  async function page(url, body, signal) {
    const answer = await fetch(url, body ? { method: "POST", body: body, signal: signal } : { signal: signal });
    const text = await answer.text();
    if (!(answer.headers.get("Content-Type") || "").startsWith("text/html")) {
      let message = "The server answered with status " + answer.status + ".";
      try { message = JSON.parse(text).error.message; } catch (error) { /* no JSON */ }
      throw new Error(message);
    }
    const found = new DOMParser().parseFromString(text, "text/html");
    if (found.getElementById("login")) { location.reload(); throw new DOMException("", "AbortError"); }
    return found;
  }

  function asForm() {
    const body = new FormData(form);
    body.set("part", "1");
    return body;
  }

  async function search(push) {
    clearTimeout(timer);
    const url = address();
    if (running) running.abort();
    const mine = running = new AbortController();
    root.classList.add("busy");
    results.setAttribute("aria-busy", "true");
    try {
      const found = await page(url, picture() ? asForm() : null, mine.signal);
      results.replaceChildren(...found.getElementById("results").childNodes);
      status.textContent = found.getElementById("status").textContent;
      document.title = found.title;
      if (push && url !== last) history.pushState(null, "", url);
      else history.replaceState(null, "", url);
      last = url;
    } catch (error) {
      if (error.name === "AbortError") return;
      failed(results, error);
      status.textContent = "";
    } finally {
      if (running === mine) {
        running = null;
        root.classList.remove("busy");
        results.removeAttribute("aria-busy");
      }
    }
  }

  function failed(place, error) {
    const box = document.createElement("div"), text = document.createElement("p");
    box.className = "alert";
    box.setAttribute("role", "alert");
    text.textContent = error instanceof TypeError ? "The server does not answer. Try again." : error.message;
    box.append(text);
    place.replaceChildren(box);
  }

  field.addEventListener("input", function (event) {
    clearTimeout(timer);
    if (!event.isComposing) timer = setTimeout(search, WAIT);
  });
  field.addEventListener("compositionend", function () { clearTimeout(timer); timer = setTimeout(search, WAIT); });
  form.addEventListener("submit", function (event) {
    if (event.submitter && event.submitter.classList.contains("why")) return;
    event.preventDefault();
    search(true);
  });
  form.addEventListener("change", function (event) {
    if (event.target === field) return;
    if (event.target === image) { pick(); return; }
    if (event.target.name === "index") { location.assign("./?" + kept("index", "q")); return; }
    search(true);
  });
  window.addEventListener("popstate", function () { location.reload(); });

  function kept(...names) {
    const given = new URLSearchParams();
    for (const name of names) if (form.elements[name].value) given.append(name, form.elements[name].value);
    return given;
  }

  // -- a picture -----------------------------------------------------------------------------------------------------

  function pick() {
    if (form.elements.picture) form.elements.picture.remove(); // of the page before
    const file = image.files[0];
    picked.hidden = !file;
    if (!file) { search(true); return; }
    let small = picked.querySelector("img");
    if (!small) { small = new Image(); small.alt = "The picture that you search by"; picked.prepend(small); }
    const reader = new FileReader();
    reader.onload = function () { small.src = reader.result; };
    reader.readAsDataURL(file);
    picked.querySelector("span").textContent = "Searching by this picture, and by words if you write some";
    search(true);
  }

  function take(event, data) {
    const file = image && [...data.files].find(function (one) { return one.type.startsWith("image/"); });
    if (!file) return;
    event.preventDefault();
    const held = new DataTransfer();
    held.items.add(file);
    image.files = held.files;
    pick();
  }

  document.addEventListener("paste", function (event) { take(event, event.clipboardData); });
  document.addEventListener("dragover", function (event) { if (image) event.preventDefault(); });
  document.addEventListener("drop", function (event) { take(event, event.dataTransfer); });
  document.getElementById("unpick").addEventListener("click", function (event) {
    event.preventDefault();
    if (image) image.value = "";
    pick();
    field.focus();
  });

  // -- hits ----------------------------------------------------------------------------------------------------------

  results.addEventListener("click", function (event) {
    const control = event.target.closest(".why, .more");
    if (!control || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (control.classList.contains("more")) more(control);
    else explain(control);
  });

  function more(link) {
    const select = form.elements.k, seen = hits().length;
    select.value = link.dataset.k;
    search(true).then(function () { const next = hits()[seen]; if (next) next.focus({ preventScroll: true }); });
  }

  async function explain(control) {
    const hit = control.closest(".hit"), open = hit.querySelector(".explained");
    if (open) { open.remove(); control.setAttribute("aria-expanded", "false"); return; }
    if (control.getAttribute("aria-busy")) return;
    control.setAttribute("aria-busy", "true");
    let section = document.createElement("section");
    try {
      const body = control.href ? null : asForm();
      if (body) body.set("id", control.value);
      const found = await page(control.href || "why", body);
      section = found.getElementById("why") || found.querySelector(".alert") || section;
    } catch (error) {
      if (error.name === "AbortError") return;
      failed(section, error);
    } finally {
      control.removeAttribute("aria-busy");
    }
    if (!section.classList.contains("explained")) {
      const box = document.createElement("section");
      box.className = "explained";
      box.append(section);
      section = box;
    }
    hit.append(section);
    control.setAttribute("aria-expanded", "true");
    shown(section);
  }

  // The words of the query, of the passage and of the page that belong together, and a word's own heat map.
  function shown(place) {
    for (const part of place.querySelectorAll(".explained").length ? place.querySelectorAll(".explained") : [place]) {
      if (!part.classList || !part.classList.contains("explained")) continue;
      for (const one of part.querySelectorAll("tr[data-q]")) one.tabIndex = 0;
      part.addEventListener("pointerover", function (event) { mark(part, event.target.closest("[data-q]")); });
      part.addEventListener("focusin", function (event) { mark(part, event.target.closest("[data-q]")); });
      part.addEventListener("pointerleave", function () { mark(part, null); });
    }
  }

  function mark(part, from) {
    const wanted = from ? from.dataset.q.split(" ") : [];
    for (const one of part.querySelectorAll("[data-q]")) {
      one.classList.toggle("on", one.dataset.q.split(" ").some(function (number) { return wanted.includes(number); }));
    }
    const map = wanted.length && part.querySelector('[data-map="' + wanted[0] + '"]') ? wanted[0] : "all";
    for (const one of part.querySelectorAll("[data-map]")) one.classList.toggle("off", one.dataset.map !== map);
  }

  // -- keys ----------------------------------------------------------------------------------------------------------

  function hits() { return [...results.querySelectorAll(".hit")]; }

  function move(from, step) {
    const all = hits(), next = all[from + step];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "nearest" }); }
    else if (from + step < 0) field.focus();
  }

  document.addEventListener("keydown", function (event) {
    const target = event.target, typing = target.matches("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const hit = target.closest(".hit"), at = hit ? hits().indexOf(hit) : -1;
    const done = {
      "/": function () { if (typing) return false; field.focus(); field.select(); },
      ArrowDown: function () { if (typing && target !== field || !hits().length) return false; move(at, 1); },
      ArrowUp: function () { if (!hit) return false; move(at, -1); },
      Enter: function () { if (target !== hit) return false; explain(hit.querySelector(".why")); },
      Escape: function () {
        if (target === field) { if (!field.value) return false; field.value = ""; search(true); return; }
        if (hit && hit.querySelector(".explained")) { explain(hit.querySelector(".why")); hit.focus(); return; }
        field.focus();
      },
    }[event.key];
    if (done && done() !== false) event.preventDefault();
  });
})();
