"use strict";
// Replaces what is shown by what the same address shows now, and marks the rows that have changed since the last look.
(function () {
  const main = document.getElementById("main");
  const pause = Number(main.dataset.refresh) * 1000;
  let last = document.getElementById("live").innerHTML;
  async function refresh() {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href);
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      const live = document.getElementById("live");
      if (!fresh || fresh.innerHTML === last) return;
      last = fresh.innerHTML;
      const rows = live.querySelectorAll("[data-item]");
      const before = new Map(Array.from(rows, (row) => [row.dataset.item, row.dataset.version]));
      for (const row of fresh.querySelectorAll("[data-item]")) {
        if (before.get(row.dataset.item) !== row.dataset.version) row.classList.add("changed");
      }
      live.replaceChildren(...fresh.childNodes);
    } catch (error) {
      // The server restarts, or the network is away: the next turn tries again.
    }
  }
  setInterval(refresh, pause);
})();
