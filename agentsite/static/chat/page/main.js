// The page: which person in which tenant, which conversation the address names, and the parts around it.

import "../agent-chat.js";
import { entriesOf, fork, titleOf } from "./actions.js";
import { asGuest, asPerson } from "./api.js";
import { Conversation } from "./conversation.js";
import { $, acting, el, icon, notice } from "./dom.js";
import * as invite from "./invite.js";
import { openMenu } from "./menu.js";
import { share } from "./share.js";
import { Sidebar } from "./sidebar.js";
import { openDialog } from "./dialogs.js";
import { offerThemes } from "./theme.js";

const SESSION = /^\/chat\/s\/([0-9a-f-]{36})$/;
const NOT_FOUND = "There is no such conversation, or you do not take part in it.";
const ENDS = {
  participation_ended: "You no longer take part in this conversation.",
  session_deleted: "This conversation was deleted.",
  not_found: NOT_FOUND,
};
// The id of the conversation that the address names.
const addressed = () => SESSION.exec(location.pathname)?.[1];
const known = JSON.parse($("known").textContent);

class Page {
  current = null;
  sidebar = null;

  constructor({ api, me, tenant = null, guest = null }) {
    Object.assign(this, { api, me, tenant, guest });
    this.conversation = new Conversation(this);
  }

  get mayBegin() {
    return !this.guest && this.tenant.role !== "viewer";
  }

  async start() {
    $("app").hidden = $("skip").hidden = false;
    $("share").addEventListener("click", () => this.#share());
    $("more").addEventListener("click", () =>
      openMenu($("more"), entriesOf(this, this.current), `Actions of ${titleOf(this.current)}`),
    );
    offerThemes();
    if (this.guest) {
      document.body.classList.add("guest");
    } else {
      this.sidebar = new Sidebar(this);
      this.sidebar.refresh();
      await this.conversation.offer();
      document.addEventListener("click", (event) => this.#follow(event));
      window.addEventListener("popstate", () => location.hash || this.route());
    }
    await this.route();
  }

  // Links of this page change what it shows; with a key held they open as everywhere.
  #follow(event) {
    const link = event.target.closest?.("a[href]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !plain || link.target || link.hasAttribute("download") || event.defaultPrevented) return;
    const { pathname, origin, hash } = new URL(link.href);
    if (origin !== location.origin || hash || (pathname !== "/chat/" && !SESSION.test(pathname))) return;
    event.preventDefault();
    this.go(pathname, Number(link.dataset.seq));
  }

  // `seq` is of the message to show.
  go(path, seq = 0) {
    drawer(false);
    if (path !== location.pathname) history.pushState(null, "", path);
    this.route(seq);
  }

  open(id) {
    this.go(`/chat/s/${id}`);
  }

  route = acting(async (seq = 0) => {
    const id = addressed();
    if (!id) {
      this.current = null;
      this.conversation.begin();
    } else {
      await this.#enter(id, seq);
    }
    this.sidebar?.mark();
  });

  async #enter(id, seq) {
    let session;
    try {
      session = await this.api.get(`sessions/${id}`);
    } catch (error) {
      if (addressed() !== id) return undefined;
      this.current = null;
      return this.#missing(id, error);
    }
    if (addressed() !== id) return undefined; // the person went on meanwhile
    this.current = session;
    return this.conversation.open(this.current, seq);
  }

  // It may be of another tenant of the person.
  async #missing(id, error) {
    if (error.status !== 404) throw error;
    this.conversation.close("Not found", "");
    const slug = await tenantWith(id);
    if (addressed() !== id) return undefined;
    if (slug) return location.replace(`/chat/s/${id}?tenant=${slug}`);
    return this.conversation.say(NOT_FOUND);
  }

  // The component made a session for the first message.
  begun = acting(async (id) => {
    if (this.current?.id === id) return;
    history.pushState(null, "", `/chat/s/${id}`);
    const session = await this.api.get(`sessions/${id}`);
    if (addressed() === id) {
      this.current = session;
      this.conversation.show(session);
    }
    this.sidebar?.changed(session);
  });

  renamed = acting(async () => {
    if (this.current) this.changed(await this.api.get(`sessions/${this.current.id}`));
  });

  ranked({ id, role }) {
    if (id === this.current?.id && role !== this.current.role) this.renamed();
  }

  changed(session) {
    this.sidebar?.changed(session);
    this.seen(session);
  }

  // A session as the server has it now.
  seen(session) {
    const before = this.current;
    if (session.id !== before?.id) return;
    this.current = session;
    if (before.status !== session.status) this.conversation.open(session);
    else this.conversation.show(session);
  }

  fork = acting(({ session, message_id }) => fork(this, session, message_id));

  gone(session) {
    this.sidebar?.gone(session);
    if (this.guest) {
      invite.forgetGuest(session.id);
      invite.refusal("You left the conversation", "To come back you need a new invitation.", {
        href: "/chat/login/",
        text: "Sign in",
      });
    } else if (session.id === this.current?.id) this.go("/chat/");
  }

  // The server closed the conversation to the person. What is no end of it, as of a sign-in, the component tells.
  refused({ id, code }) {
    const session = this.current;
    if (session?.id !== id || !(code in ENDS)) return;
    this.current = null;
    this.conversation.close(titleOf(session), ENDS[code]);
    this.sidebar?.gone(session);
    if (this.guest) invite.forgetGuest(id);
  }

  rename(session) {
    if (matchMedia("(max-width: 800px)").matches || !this.sidebar?.rename(session)) this.#renameInDialog(session);
  }

  async #renameInDialog(session) {
    const field = el("input", {
      maxlength: "200",
      "aria-label": "Title",
      dir: "auto",
      required: true,
      autofocus: true,
    });
    field.value = titleOf(session);
    const done = await openDialog(
      "Rename",
      (dialog) => [
        el(
          "form",
          { method: "dialog", class: "line", onsubmit: () => (dialog.returnValue = "save") },
          field,
          el("button", { class: "button primary", value: "save" }, "Save"),
        ),
      ],
      { kind: "small" },
    );
    const title = field.value.trim();
    if (done === "save" && title)
      await acting(async () => this.changed(await this.api.patch(`sessions/${session.id}`, { title })))();
  }

  async #share() {
    await share(this, this.current);
    this.renamed();
  }
}

function drawer(open) {
  document.body.classList.toggle("side-shown", open);
  $("side-open").setAttribute("aria-expanded", String(open));
  const beneath = document.querySelector(".main");
  beneath.inert = open;
  if (open) $("side-close").focus();
}

function furnish() {
  $("side-open").append(icon("menu"));
  $("side-close").append(icon("close"));
  $("more").append(icon("more"));
  $("new").prepend(icon("plus"));
  const closed = () => {
    drawer(false);
    $("side-open").focus();
  };
  $("side-open").addEventListener("click", () => drawer(true));
  $("side-close").addEventListener("click", closed);
  $("veil").addEventListener("click", closed);
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("chat").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.body.classList.contains("side-shown")) closed();
  });
  matchMedia("(max-width: 800px)").addEventListener("change", () => drawer(false));
  $("tenant")?.addEventListener("change", () =>
    location.assign(`/chat/?tenant=${encodeURIComponent($("tenant").value)}`),
  );
}

// The slug of the person's tenant in which they see the session.
async function tenantWith(id) {
  for (const { slug } of known.tenants) {
    if (
      await asPerson(slug)
        .get(`sessions/${id}`)
        .catch(() => null)
    )
      return slug;
  }
  return null;
}

async function comeByInvitation(token) {
  try {
    const came = known.person ? await invite.acceptAsPerson(token, known.person.name) : await invite.welcome(token);
    if (came.guest) invite.keepGuest(came.session_id, { secret: came.guest.secret });
    const tenant = came.guest ? null : invite.tenantOf(token, known.tenants);
    location.replace(`/chat/s/${came.session_id}${tenant ? `?tenant=${tenant.slug}` : ""}`);
  } catch (error) {
    invite.refuseInvitation(error, Boolean(known.person));
  }
}

async function comeAsGuest(id, guest) {
  const api = asGuest(guest.secret);
  try {
    const { principal } = await api.get("me");
    await new Page({ api, guest, me: principal }).start();
  } catch (error) {
    if (error.status === 401 || error.status === 403) invite.forgetGuest(id);
    const link = { href: `/chat/login/?next=${encodeURIComponent(location.pathname)}`, text: "Sign in" };
    invite.refusal("You can no longer see this conversation", error.message, link);
  }
}

async function arrive() {
  const token = invite.invitation();
  if (token) return comeByInvitation(token);
  const id = addressed();
  const guest = id && invite.guestOf(id);
  if (guest && !(await tenantWith(id))) return comeAsGuest(id, guest);
  if (!known.person) return location.replace(`/chat/login/?next=${encodeURIComponent(location.pathname)}`);
  if (!known.tenant)
    return invite.refusal("You are a member of no tenant", "Ask an administrator to add you, then come back.");
  const me = { kind: "user", id: known.person.id, label: known.person.name };
  return new Page({ api: asPerson(known.tenant.slug), tenant: known.tenant, me }).start();
}

// An invitation that is opened where the page is open already.
window.addEventListener("hashchange", () => {
  const token = location.hash && invite.invitation();
  if (token) comeByInvitation(token);
});
furnish();
arrive().catch((error) => notice(error.message, { fault: true }));
