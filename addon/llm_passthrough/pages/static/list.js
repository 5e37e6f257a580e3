// Puts calls on top of the list as they end. Every text arrives as text and is shown as text.
"use strict";

(() => {
  const body = document.querySelector("[data-calls]");
  const dot = document.querySelector("[data-live]");
  const isOnTop = dot.dataset.live === "on";
  const most = 100;
  const once = body.dataset.ready === "no";
  let cursor = body.dataset.cursor;
  let waiting = 0;
  let source = null;

  function again(first) {
    const link = document.createElement("a");
    link.href = "/llm/" + encodeURIComponent(first);
    link.className = "again";
    link.title = body.dataset.again;
    link.textContent = "↻";
    return link;
  }

  function row(call) {
    const line = document.createElement("tr");
    line.dataset.item = "";
    line.dataset.id = call.id;
    line.className = "arrived";
    for (const [name, text, title, first] of call.cells) {
      const cell = document.createElement("td");
      cell.className = name;
      if (title) cell.title = title;
      if (name === "time") {
        const link = document.createElement("a");
        link.href = "/llm/" + encodeURIComponent(call.id);
        link.dataset.open = "";
        link.textContent = text;
        cell.append(link);
      } else {
        cell.textContent = text;
        if (first) cell.append(" ", again(first));
      }
      line.append(cell);
    }
    return line;
  }

  function put(call) {
    body.querySelector(`tr[data-id="${CSS.escape(call.id)}"]`)?.remove();
    // By when it began: a long call ends after others that began later.
    const after = [...body.rows].find((other) => (other.dataset.id ?? "") <= call.id);
    body.insertBefore(row(call), after ?? null);
    while (body.rows.length > most) body.rows[body.rows.length - 1].remove();
    document.querySelector("[data-empty]")?.remove();
  }

  function hear(event) {
    const news = JSON.parse(event.data);
    cursor = event.lastEventId || cursor;
    if (once && news.ready) return location.reload(); // the list is whole only now
    document.querySelector("[data-reading]").textContent = news.reading;
    if (!news.calls.length) return;
    if (isOnTop) {
      news.calls.forEach(put);
      if (news.total) document.querySelector("[data-total]").textContent = news.total;
    } else {
      waiting += news.calls.length;
      const link = document.querySelector("[data-news]");
      link.textContent = waiting === 1 ? "1 new call" : `${waiting} new calls`;
      link.hidden = false;
    }
  }

  function listen() {
    const words = new URLSearchParams(body.dataset.words);
    words.set("cursor", cursor);
    source = new EventSource("/llm/events?" + words);
    source.onmessage = hear;
    source.onopen = () => isOnTop && (dot.dataset.live = "on");
    source.onerror = () => {
      dot.dataset.live = "lost";
      // EventSource tries again by itself but for answers such as 403.
      if (source.readyState === EventSource.CLOSED) source = null;
    };
  }

  function rest() {
    source?.close();
    source = null;
  }

  // A browser has few connections to one host: a page that nobody sees holds none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) rest();
    else if (!source) listen();
  });
  addEventListener("pagehide", rest);
  addEventListener("pageshow", () => source || document.hidden || listen());
})();
