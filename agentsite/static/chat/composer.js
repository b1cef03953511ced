/** Where a message is written. Enter sends, Shift+Enter makes a line, Escape stops the answer. */

import { h, icon, setText } from "./dom.js";

export class Composer {
  /**
   * @param {Record<string, string>} words
   * @param {{send: (text: string) => void, stop: () => void, typing: () => void}} actions
   */
  constructor(words, actions) {
    this.actions = actions;
    this.field = h("textarea", {
      rows: 1,
      "aria-label": words.message,
      placeholder: words.placeholder,
      dir: "auto",
      enterkeyhint: "send",
    });
    this.sendButton = h(
      "button",
      { type: "submit", class: "round primary", "aria-label": words.send, title: words.send },
      icon("send"),
    );
    this.stopButton = h(
      "button",
      { type: "button", class: "round stop", "aria-label": words.stop, title: words.stop, onclick: actions.stop },
      icon("stop"),
    );
    this.fault = h("p", { class: "fault", role: "alert", dir: "auto" });
    this.note = h("p", { class: "note" });
    this.box = h("div", { class: "box" }, this.field, this.stopButton, this.sendButton);
    this.element = h(
      "form",
      { class: "composer" },
      this.fault,
      this.note,
      this.box,
      h("p", { class: "hidden", id: "keys", text: words.keys }),
    );
    this.field.setAttribute("aria-describedby", "keys");
    this.element.onsubmit = (event) => this.#submit(event);
    this.field.onkeydown = (event) => this.#key(event);
    this.field.oninput = () => this.#changed();
    this.sendButton.disabled = true;
  }

  /** @param {{running: boolean, note: string}} facts `note` says why nobody can write here */
  update({ running, note }) {
    this.stopButton.hidden = !running;
    this.box.hidden = Boolean(note) && !this.field.value; // what was written stays to be copied
    this.note.hidden = !note;
    setText(this.note, note);
  }

  /** A text that was not sent, before what was written since. */
  giveBack(text, why) {
    this.field.value = [text, this.field.value].filter(Boolean).join("\n");
    this.tell(why);
    this.#size();
  }

  tell(why) {
    setText(this.fault, why);
  }

  focus() {
    this.field.focus();
  }

  #submit(event) {
    event.preventDefault();
    const text = this.field.value.trim();
    if (!text) return;
    this.field.value = "";
    this.tell("");
    this.#size();
    this.actions.send(text);
  }

  #key(event) {
    if (event.isComposing || event.keyCode === 229) return; // an input method takes the key
    if (event.key === "Escape" && !this.stopButton.hidden) this.actions.stop();
    else if (event.key === "Enter" && !event.shiftKey) this.#submit(event);
  }

  #changed() {
    this.#size();
    if (this.field.value.trim()) this.actions.typing();
  }

  /** As high as its text, up to the style's max-height. */
  #size() {
    this.sendButton.disabled = !this.field.value.trim();
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }
}
