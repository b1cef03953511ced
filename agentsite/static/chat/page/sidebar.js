// The list of my conversations: by the day on which something was last said, searched, and paged as one scrolls.

import { $, acting, dayOf, el, icon } from "./dom.js";
import { entriesOf, titleOf } from "./actions.js";
import { openMenu } from "./menu.js";
import { found } from "./search.js";

const PAGE = 40;
const AGAIN = 60_000; // ms between two looks for what others did, while somebody looks

const timeOf = (session) => session.last_message_at ?? session.created_at;

export class Sidebar {
  #page;
  #list = $("list");
  #sessions = new Map();
  #cursor = null;
  #archived = false;
  #query = "";
  #isFound = false; // are the list's parts what the server found?
  #asked = 0;
  #changes = 0; // of what is in the list, by this page
  #renaming = null;
  #timer;

  constructor(page) {
    this.#page = page;
    $("search").addEventListener("input", () => this.#search());
    $("archive").addEventListener("click", () => this.#turn());
    $("archive").prepend(icon("archive"));
    this.#list.addEventListener("scroll", () => this.#reached());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
    setInterval(() => document.hidden || this.refresh(), AGAIN);
  }

  // The newest again, beside what is shown already.
  refresh = acting(async () => {
    const [asked, changes] = [this.#archived, this.#changes];
    const page = await this.#ask("");
    if (asked !== this.#archived) return undefined;
    if (changes !== this.#changes) return this.refresh(); // it may be of before a change
    if (this.#cursor === null && this.#sessions.size <= PAGE) this.#sessions.clear();
    if (this.#sessions.size === 0) this.#cursor = page.next_cursor;
    return this.#take(page.data);
  });

  async #ask(cursor) {
    const status = this.#archived ? "&status=archived" : "";
    return this.#page.api.get(
      `sessions?mine=true&limit=${PAGE}${status}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
    );
  }

  #take(sessions) {
    for (const session of sessions) {
      this.#sessions.set(session.id, session);
      this.#page.seen(session);
    }
    this.#draw();
  }

  #reached() {
    const { scrollTop, clientHeight, scrollHeight } = this.#list;
    if (this.#cursor && !this.#query && scrollTop + clientHeight > scrollHeight - 300) this.#more();
  }

  #more = acting(async () => {
    const [cursor, asked] = [this.#cursor, this.#archived];
    if (!cursor) return;
    this.#cursor = null; // asked once
    let page = { data: [], next_cursor: cursor }; // what fails may be asked again
    try {
      page = await this.#ask(cursor);
    } finally {
      if (asked === this.#archived) this.#cursor = page.next_cursor;
    }
    if (asked !== this.#archived) return;
    this.#take(page.data);
  });

  #turn() {
    this.#archived = !this.#archived;
    $("archive").setAttribute("aria-pressed", String(this.#archived));
    this.#sessions.clear();
    this.#cursor = null;
    this.#draw();
    this.refresh();
  }

  #search() {
    this.#query = $("search").value.trim();
    this.#isFound = false;
    this.#draw();
    clearTimeout(this.#timer);
    if (this.#query) this.#timer = setTimeout(() => this.#find(), 250);
  }

  #find = acting(async () => {
    const asked = (this.#asked += 1);
    const query = this.#query;
    const parts = await found(this.#page.api, query, [...this.#sessions.values()]);
    if (asked !== this.#asked || query !== this.#query) return;
    this.#isFound = true;
    this.#list.replaceChildren(...parts);
  });

  changed(session) {
    this.#changes += 1;
    if ((session.status === "archived") === this.#archived) this.#sessions.set(session.id, session);
    else this.#sessions.delete(session.id);
    this.#draw();
  }

  gone(session) {
    this.#changes += 1;
    this.#sessions.delete(session.id);
    if (this.#query) this.#find();
    this.#draw();
  }

  rename(session) {
    this.#renaming = session.id;
    this.#draw();
    const field = this.#list.querySelector("input.rename");
    if (!field) this.#renaming = null;
    if (!field) return false;
    field.focus();
    field.select();
    return true;
  }

  #draw() {
    if (this.#isFound) return;
    const field = this.#list.querySelector("input.rename");
    if (field && this.#renaming === field.dataset.id) return; // somebody types
    const held = this.#list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.#list.replaceChildren(...this.#groups());
    if (held) this.#list.querySelector(`[data-key="${held}"]`)?.focus();
  }

  #shown() {
    const sessions = [...this.#sessions.values()].sort((a, b) => (timeOf(a) < timeOf(b) ? 1 : -1));
    const words = this.#query.toLocaleLowerCase();
    return words ? sessions.filter((session) => titleOf(session).toLocaleLowerCase().includes(words)) : sessions;
  }

  #groups() {
    const groups = new Map();
    for (const session of this.#shown()) {
      const day = dayOf(timeOf(session));
      groups.set(day, [...(groups.get(day) ?? []), this.#item(session)]);
    }
    const parts = [...groups].flatMap(([day, items]) => [el("h2", {}, day), el("ul", {}, ...items)]);
    if (this.#cursor && !this.#query) parts.push(this.#moreButton());
    return parts.length ? parts : [el("p", { class: "none" }, this.#nothing())];
  }

  #nothing() {
    if (this.#query) return "Searching…";
    return this.#archived ? "Nothing is archived." : "Your conversations will be listed here.";
  }

  #moreButton() {
    return el(
      "button",
      { type: "button", class: "row more", data: { key: "more" }, onclick: () => this.#more() },
      "Show older ones",
    );
  }

  #item(session) {
    if (session.id === this.#renaming) return el("li", {}, this.#field(session));
    const title = titleOf(session);
    const here = session.id === this.#page.current?.id;
    const link = {
      href: `/chat/s/${session.id}`,
      "aria-current": here && "page",
      dir: "auto",
      data: { key: session.id },
    };
    const button = {
      type: "button",
      class: "icon dots",
      "aria-label": `Actions of ${title}`,
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      data: { key: `${session.id}-dots` },
      onclick: (event) => openMenu(event.currentTarget, entriesOf(this.#page, session), `Actions of ${title}`),
    };
    const copy = session.forked_from && el("bdi", { class: "badge" }, "Copy"); // a bdi leaves the direction to the title
    return el("li", {}, el("a", link, copy, copy && " ", title), el("button", button, icon("more")));
  }

  #field(session) {
    let done = false;
    const finish = acting(async (save) => {
      if (done) return;
      done = true;
      this.#renaming = null;
      const title = field.value.trim();
      field.remove();
      this.#draw();
      this.#list.querySelector(`[data-key="${session.id}"]`)?.focus();
      if (save && title && title !== session.title) {
        this.#page.changed(await this.#page.api.patch(`sessions/${session.id}`, { title }));
      }
    });
    const keys = (event) => {
      if (event.key === "Enter" && !event.isComposing) finish(true);
      if (event.key === "Escape") finish(false);
    };
    const field = el("input", {
      class: "rename",
      maxlength: "200",
      "aria-label": `New title of ${titleOf(session)}`,
      dir: "auto",
      data: { id: session.id },
      onkeydown: keys,
      onblur: () => finish(true),
    });
    field.value = titleOf(session);
    return field;
  }

  mark() {
    this.#draw();
  }
}
