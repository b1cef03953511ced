// A menu under a button: arrows move, Escape and a press elsewhere close, the button has the focus again.

import { el } from "./dom.js";

function place(menu, button) {
  const box = button.getBoundingClientRect();
  const room = document.documentElement;
  const rtl = getComputedStyle(button).direction === "rtl";
  const left = rtl ? box.left : box.right - menu.offsetWidth;
  const under = box.bottom + 4 + menu.offsetHeight <= room.clientHeight;
  menu.style.left = `${Math.max(8, Math.min(left, room.clientWidth - menu.offsetWidth - 8))}px`;
  menu.style.top = `${under ? box.bottom + 4 : Math.max(8, box.top - 4 - menu.offsetHeight)}px`;
}

function entry({ label, run, danger }, close) {
  const chosen = () => {
    close();
    run();
  };
  return el(
    "button",
    { type: "button", role: "menuitem", tabindex: "-1", class: danger && "danger", onclick: chosen },
    label,
  );
}

const STEPS = {
  ArrowDown: (at, count) => (at + 1) % count,
  ArrowUp: (at, count) => (at - 1 + count) % count,
  Home: () => 0,
  End: (at, count) => count - 1,
};

// `items`: `{label, run, danger}`; those that are false are left out.
export function openMenu(button, items, label) {
  const menu = el("div", { role: "menu", class: "menu", popover: "auto", "aria-label": label });
  const close = () => menu.hidePopover();
  menu.append(...items.filter(Boolean).map((item) => entry(item, close)));
  const entries = [...menu.children];
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Tab") close();
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    entries[step(entries.indexOf(document.activeElement), entries.length)].focus();
  });
  menu.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    const within = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.remove();
    button.setAttribute("aria-expanded", "false");
    if (within && button.isConnected) button.focus();
  });
  button.closest("aside, main").append(menu);
  menu.showPopover();
  place(menu, button);
  button.setAttribute("aria-expanded", "true");
  entries[0]?.focus();
}
