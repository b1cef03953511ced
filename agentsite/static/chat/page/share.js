// The dialog “Share”: who takes part, in which role, and the links by which others may come.

import { acting, avatar, el, notice, option, when } from "./dom.js";
import { confirmed, openDialog } from "./dialogs.js";
import { owns, titleOf } from "./actions.js";

const ROLES = { owner: "Owner", member: "Member", viewer: "Viewer" };
const CAN = { owner: "may do everything", member: "may talk", viewer: "may read" };
const AUDIENCES = { members: "Members of this tenant", anyone: "Anyone who has the link" };
const TIMES = { 3600: "1 hour", 86400: "1 day", 604800: "7 days", 2592000: "30 days" };

function choice(label, values, chosen, attributes = {}) {
  const select = el(
    "select",
    attributes,
    ...Object.entries(values).map(([value, text]) => option(value, text, value === String(chosen))),
  );
  return { select, field: el("label", { class: "field" }, el("span", {}, label), select) };
}

class Sharing {
  constructor(page, session) {
    this.page = page;
    this.session = session;
    this.path = `sessions/${session.id}`;
    this.people = el("ul", { class: "rows", "aria-label": "People" });
    this.links = el("ul", { class: "rows", "aria-label": "Links" });
    this.mine = owns(session);
    this.asked = 0;
  }

  parts() {
    if (!this.mine) return [this.people];
    return [
      el("section", {}, el("h3", {}, "People"), this.people, this.#adding()),
      el("section", {}, el("h3", {}, "Invite by link"), this.#inviting(), this.links),
    ];
  }

  // What comes after a later look has begun is old.
  load = acting(async () => {
    const asked = (this.asked += 1);
    const people = this.page.api.all(`${this.path}/participants`);
    const links = this.mine ? this.page.api.all(`${this.path}/invitations`) : [];
    const persons = (await people).map((person) => this.#person(person));
    if (asked === this.asked) this.people.replaceChildren(...persons);
    const open = (await links).filter(usable).map((link) => this.#link(link));
    if (asked === this.asked) this.links.replaceChildren(...open);
  });

  // Does it and looks again; the focus does not fall off the dialog with the row that it was in.
  #doing(work) {
    return acting(async (event) => {
      event?.preventDefault?.();
      notice("");
      const dialog = this.people.closest("dialog");
      try {
        await work(event);
      } finally {
        await this.load(); // after a refusal, too: the rows say what is so
        if (!dialog.contains(document.activeElement)) dialog.querySelector("h2").focus();
      }
    });
  }

  #person(person) {
    const me = person.person_id === this.page.me.id;
    const isHere = !me && this.page.conversation.present.has(person.person_id);
    const about = [person.kind === "guest" && "guest", me && "you", isHere && "here now"].filter(Boolean).join(", ");
    const name = el("span", { class: "grow" }, el("bdi", {}, person.label), about && el("small", {}, about));
    const row = el("li", {}, avatar(person.label), name);
    if (!this.mine) return this.#told(row, person);
    const changed = this.#doing((event) =>
      this.page.api.patch(`${this.path}/participants/${person.id}`, { role: event.target.value }),
    );
    const { select } = choice("", ROLES, person.role, { "aria-label": `Role of ${person.label}`, onchange: changed });
    const gone = this.#doing(() => this.page.api.delete(`${this.path}/participants/${person.id}`));
    const sentence = `${person.label} no longer sees “${titleOf(this.session)}” then, until somebody invites them again.`;
    const going = async () => (await confirmed(`Remove ${person.label}?`, [sentence], "Remove")) && gone();
    const remove = el(
      "button",
      { type: "button", class: "quiet", "aria-label": `Remove ${person.label}`, onclick: going },
      "Remove",
    );
    row.append(select, !me ? remove : "");
    return row;
  }

  #told(row, person) {
    row.append(el("span", { class: "soft" }, `${ROLES[person.role]}, ${CAN[person.role]}`));
    return row;
  }

  #adding() {
    const name = el("input", {
      required: true,
      maxlength: "150",
      autocomplete: "off",
      autocapitalize: "none",
      list: "members",
    });
    const { select, field } = choice("Role", ROLES, "member");
    const added = this.#doing(async () => {
      await this.page.api.post(`${this.path}/participants`, { user: name.value.trim(), role: select.value });
      notice(`${name.value.trim()} takes part now.`);
      name.value = "";
    });
    const known = el("datalist", { id: "members" });
    this.#suggest(known);
    return el(
      "form",
      { class: "line", onsubmit: added },
      el("label", { class: "field grow" }, el("span", {}, "Add a member of this tenant"), name),
      known,
      field,
      el("button", { type: "submit", class: "button" }, "Add"),
    );
  }

  async #suggest(known) {
    const members = await this.page.api.all("members").catch(() => []); // only a help in typing
    known.append(...members.map((member) => el("option", { value: member.username })));
  }

  #inviting() {
    const role = choice("They", { member: "may talk", viewer: "may read" }, "member");
    const audience = choice("Who", AUDIENCES, "members");
    const expires = choice("Good for", TIMES, 604800);
    const uses = el("input", {
      type: "number",
      min: "1",
      max: "10000",
      placeholder: "any number",
      inputmode: "numeric",
    });
    const result = el("div", { class: "made" });
    const made = this.#doing(async () => {
      const body = {
        role: role.select.value,
        audience: audience.select.value,
        expires_in: Number(expires.select.value),
      };
      if (uses.value) body.max_uses = Number(uses.value);
      const link = await this.page.api.post(`${this.path}/invitations`, body);
      result.replaceChildren(...copyable(link.url));
      result.querySelector("button").focus();
    });
    return el(
      "form",
      { onsubmit: made },
      el(
        "div",
        { class: "grid" },
        role.field,
        audience.field,
        expires.field,
        el("label", { class: "field" }, el("span", {}, "Uses"), uses),
      ),
      el("button", { type: "submit", class: "button primary" }, "Make a link"),
      result,
    );
  }

  #link(link) {
    const used = link.max_uses ? `used ${link.uses} of ${link.max_uses} times` : `used ${link.uses} times`;
    const about = `${AUDIENCES[link.audience]}, ${used}, until ${when(link.expires_at)}`;
    const revoked = this.#doing(() => this.page.api.delete(`${this.path}/invitations/${link.id}`));
    const name = {
      type: "button",
      class: "quiet",
      "aria-label": `Revoke the link: whoever has it ${CAN[link.role]}, ${about}`,
      onclick: revoked,
    };
    const text = el("span", { class: "grow" }, `Whoever has it ${CAN[link.role]}`, el("small", {}, about));
    return el("li", {}, text, el("button", name, "Revoke"));
  }
}

function usable(link) {
  const left = !link.max_uses || link.uses < link.max_uses;
  return left && !link.revoked_at && new Date(link.expires_at) > new Date();
}

function copyable(url) {
  const field = el("input", { readonly: true, value: url, "aria-label": "The link", onfocus: () => field.select() });
  const copied = acting(async () => {
    field.select();
    await navigator.clipboard.writeText(url);
    notice("The link was copied.");
  });
  const once = el(
    "p",
    { class: "soft" },
    "It is shown this once. Whoever has it can come, so give it only to those you mean.",
  );
  return [
    el("div", { class: "line" }, field, el("button", { type: "button", class: "button", onclick: copied }, "Copy")),
    once,
  ];
}

export async function share(page, session) {
  const sharing = new Sharing(page, session);
  const closed = openDialog(owns(session) ? `Share “${titleOf(session)}”` : `People in “${titleOf(session)}”`, () =>
    sharing.parts(),
  );
  sharing.load();
  await closed;
}
