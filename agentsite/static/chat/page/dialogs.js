// Modal dialogs. The browser keeps the focus inside and gives it back; Escape closes.

import { el, icon } from "./dom.js";

let numbered = 0;

// Resolves with what the dialog was closed with: "" by Escape and by its cross.
export function openDialog(title, fill, { kind = "" } = {}) {
  const id = `dialog-${(numbered += 1)}`;
  const dialog = el("dialog", { class: `dialog ${kind}`.trim(), "aria-labelledby": id });
  const cross = el(
    "button",
    { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close("") },
    icon("close"),
  );
  const head = el("header", { class: "dialog-head" }, el("h2", { id, tabindex: "-1" }, title), cross);
  dialog.append(head, ...fill(dialog), el("p", { class: "dialog-notice", role: "status" }));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close(""));
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("[autofocus]") ?? head.firstChild).focus();
  });
}

// True when the person says yes. The way back has the focus first.
export async function confirmed(title, sentences, action) {
  const answer = await openDialog(
    title,
    (dialog) => [
      ...sentences.map((sentence) => el("p", { dir: "auto" }, sentence)),
      el(
        "div",
        { class: "dialog-actions" },
        el("button", { type: "button", class: "button", autofocus: true, onclick: () => dialog.close("") }, "Cancel"),
        el("button", { type: "button", class: "button destructive", onclick: () => dialog.close("yes") }, action),
      ),
    ],
    { kind: "small" },
  );
  return answer === "yes";
}
