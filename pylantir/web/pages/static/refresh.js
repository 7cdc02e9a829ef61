"use strict";
// Brings the page up to date without loading it anew: only what differs is replaced, so nothing flickers and focus,
// selection and scroll position stay. Rows that have changed since the last look are marked for some minutes. Numbers
// of rows and checksums of their contents are kept in this tab, no patient's data.
(function () {
  const MARKED_MS = 5 * 60 * 1000;
  const main = document.getElementById("main");
  const freshness = document.getElementById("freshness");
  // What a screen reader is told: changes and problems, not that half a minute has passed.
  const news = document.getElementById("news");
  const memory = "seen " + location.pathname + location.search;

  function recall() {
    try {
      return JSON.parse(sessionStorage.getItem(memory));
    } catch (error) {
      return null;
    }
  }

  // Mark what differs from the last look; `seen` maps a row to [checksum, when it changed, how].
  function mark(root) {
    const before = recall();
    const now = Date.now();
    const seen = {};
    let changes = 0;
    for (const row of root.querySelectorAll("[data-item]")) {
      const old = before && before[row.dataset.item];
      let [, at, how] = old || ["", 0, ""];
      if (before && (!old || old[0] !== row.dataset.version)) {
        [at, how] = [now, old ? "changed" : "new"];
        changes += 1;
      }
      if (at && now - at < MARKED_MS) {
        row.classList.add("changed");
        const tag = document.createElement("span");
        tag.className = "tag";
        tag.textContent = how;
        row.firstElementChild.append(" ", tag);
      }
      seen[row.dataset.item] = [row.dataset.version, at, how];
    }
    try {
      sessionStorage.setItem(memory, JSON.stringify(seen));
    } catch (error) {
      // Without storage nothing is marked.
    }
    return changes;
  }

  // Make `old` like `fresh`, leaving alone what is equal already and what somebody is typing.
  function adopt(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const name of fresh.getAttributeNames()) {
      if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
    }
    const kept = new Map();
    for (const child of old.children) if (child.dataset.item) kept.set(child.dataset.item, child);
    const wanted = Array.from(fresh.childNodes);
    let place = old.firstChild;
    for (const child of wanted) {
      const same = child.dataset && child.dataset.item ? kept.get(child.dataset.item) : null;
      if (same) {
        if (same === place) place = place.nextSibling;
        else old.insertBefore(same, place);
        adopt(same, child);
      } else if (place && !(place.dataset && place.dataset.item) && place.nodeName === child.nodeName) {
        const next = place.nextSibling;
        adopt(place, child);
        place = next;
      } else {
        old.insertBefore(child, place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function tell(text, isProblem) {
    news.textContent = text;
    news.classList.toggle("problem", isProblem);
  }

  async function refresh() {
    if (document.hidden) return;
    let answer;
    try {
      answer = await fetch(location.href);
    } catch (error) {
      tell("Not up to date: Pylantir does not answer.", true);
      return;
    }
    if (answer.redirected) {
      tell("Not up to date: log in again, by loading this page anew.", true);
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("main");
    if (!answer.ok || !fresh || !page.getElementById("freshness")) {
      tell("Not up to date: the worklist cannot be read just now.", true);
      return;
    }
    const changes = mark(fresh);
    adopt(main, fresh);
    document.title = page.title;
    freshness.textContent = page.getElementById("freshness").textContent;
    tell(changes ? changes + (changes === 1 ? " row has changed." : " rows have changed.") : "", false);
  }

  mark(main);
  setInterval(refresh, Number(main.dataset.refresh) * 1000);
  document.addEventListener("visibilitychange", refresh);
})();
