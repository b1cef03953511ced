// As the system wants it, or as the person chose; kept in this browser.

import { $ } from "./dom.js";

const KEY = "chat-theme";

export function theme() {
  return document.documentElement.dataset.theme ?? "auto";
}

function choose(chosen) {
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  localStorage.setItem(KEY, chosen);
  for (const chat of document.querySelectorAll("agent-chat")) chat.setAttribute("theme", chosen);
}

export function offerThemes() {
  $("theme").value = theme();
  $("theme").addEventListener("change", () => choose($("theme").value));
}
