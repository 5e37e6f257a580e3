// Keys of all pages: a list of items ([data-item]) to walk through, and links by what they mean.
"use strict";

(() => {
  const find = (selector) => document.querySelector(selector);
  const help = find("#keys");
  let picked = -1;

  const items = () =>
    [...document.querySelectorAll("[data-item]")].filter((item) => item.getClientRects().length);

  function pick(step) {
    const all = items();
    if (!all.length) return;
    const now = all.findIndex((item) => item.classList.contains("picked"));
    picked = Math.min(Math.max((now < 0 ? picked : now) + step, 0), all.length - 1);
    for (const item of all) item.classList.toggle("picked", item === all[picked]);
    all[picked].scrollIntoView({ block: "nearest" });
  }

  function open() {
    const item = find("[data-item].picked");
    if (!item) return;
    const link = item.querySelector("a[data-open]");
    if (link) link.click();
    else toggle(item.matches("details") ? [item] : [...item.querySelectorAll("details")]);
  }

  function toggle(folds) {
    const unfold = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = unfold;
  }

  const follow = (selector) => () => find(selector)?.click();
  const go = (address) => () => location.assign(address);

  const keys = {
    j: () => pick(1),
    k: () => pick(-1),
    Enter: open,
    "/": () => (find("[data-search]") ? find("[data-search]").select() : location.assign("/llm")),
    n: follow("a[data-next]"),
    p: follow("a[data-before]"),
    e: () => toggle([...document.querySelectorAll(".talk details")]),
    r: follow("a[data-raw]"),
    u: () => (find("a[data-up]") ? find("a[data-up]").click() : location.assign("/llm")),
    s: go("/llm/stats"),
    "?": () => (help.open ? help.close() : help.showModal()),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const busy = event.target.closest("input, select, textarea");
    if (busy) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    // A link, a button or a fold that has the focus takes Enter itself.
    if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
    if (help.open && event.key !== "?") return;
    const action = Object.hasOwn(keys, event.key) ? keys[event.key] : undefined;
    if (action) {
      event.preventDefault();
      action();
    }
  });

  find("[data-help]").addEventListener("click", () => help.showModal());

  // An empty field says nothing: it need not stand in the address.
  find("[data-filters]")?.addEventListener("submit", (event) => {
    for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
  });
  addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("[data-filters] :disabled")) field.disabled = false;
  });
})();
