/** What a person is asked about a call: its arguments, which may be changed, yes or no, and then who decided. */

import { h, icon, setText } from "./dom.js";
import { fill } from "./strings.js";

const OUTCOMES = { approved: "approved", denied: "denied", expired: "approvalExpired", withdrawn: "withdrawn" };

export class ApprovalView {
  #shown = "";

  /** @param {import("./view-parts.js").Ui} ui */
  constructor(ui) {
    this.ui = ui;
    const { words } = ui;
    this.message = h("p", { class: "question", dir: "auto" });
    this.rules = h("p", { class: "rules" });
    this.args = h("textarea", { class: "edit", "aria-label": words.approvalEdit, spellcheck: "false", dir: "ltr" });
    this.comment = h("input", {
      type: "text",
      maxlength: 500,
      "aria-label": words.approvalComment,
      placeholder: words.approvalComment,
      dir: "auto",
    });
    this.fault = h("p", { class: "fault", role: "alert", dir: "auto" });
    const approve = h("button", {
      type: "button",
      class: "primary",
      text: words.approve,
      onclick: () => this.#decide(true),
    });
    const deny = h("button", {
      type: "button",
      class: "plain-button",
      text: words.deny,
      onclick: () => this.#decide(false),
    });
    this.buttons = [approve, deny];
    this.row = h("div", { class: "row" }, approve, deny);
    const hint = h("p", { class: "rules", text: words.approvalEdit });
    this.form = h(
      "div",
      { class: "approval", role: "group", "aria-label": words.approvalTitle },
      this.message,
      hint,
      this.args,
      this.comment,
      this.fault,
      this.row,
      this.rules,
    );
    this.hint = hint;
    this.outcome = h("p", { class: "outcome", dir: "auto" });
    this.element = h("div", {}, this.form, this.outcome);
  }

  /** @param {import("./answer.js").ToolPart} part @param {import("./answer.js").Answer} run */
  update(part, run) {
    const { approval } = part;
    this.element.hidden = !approval;
    if (!approval) return;
    this.approval = approval;
    this.run = run;
    const asks = approval.status === "pending" || approval.status === "deciding";
    if (!asks && this.form.contains(this.form.getRootNode().activeElement)) this.element.closest("article").focus();
    this.form.hidden = !asks;
    this.outcome.hidden = asks;
    if (asks) this.#ask(approval);
    else this.#told(approval);
  }

  #ask(approval) {
    const { words } = this.ui;
    if (this.#shown !== approval.id) this.#first(approval);
    const role = approval.role ? fill(words.approvalRole, { role: approval.role }) : "";
    const time = new Date(approval.expiresAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    setText(this.rules, `${role} ${fill(words.approvalExpires, { time })}`.trim());
    setText(this.fault, approval.fault ?? "");
    const mayDecide = this.ui.canDecide();
    this.args.readOnly = !(approval.canEdit && mayDecide);
    this.comment.hidden = this.row.hidden = !mayDecide;
    this.hint.hidden = this.args.readOnly;
    const busy = approval.status === "deciding";
    for (const button of this.buttons) button.disabled = busy;
    setText(this.buttons[0], busy ? words.deciding : words.approve);
  }

  #first(approval) {
    this.#shown = approval.id;
    setText(this.message, approval.message);
    this.args.value = JSON.stringify(approval.arguments, null, 2);
    this.args.rows = Math.min(12, this.args.value.split("\n").length);
  }

  #told(approval) {
    const { words } = this.ui;
    const word = approval.status === "approved" && approval.edited ? "approvedEdited" : OUTCOMES[approval.status];
    const told = fill(words[word], { who: approval.by || words.somebody });
    const said = approval.comment ? `${told}: ${approval.comment}` : told;
    this.outcome.replaceChildren(icon(approval.status === "approved" ? "check" : "warning"), said);
  }

  #decide(approved) {
    const payload = { approved };
    if (this.comment.value.trim()) payload.comment = this.comment.value.trim();
    if (approved && this.approval.canEdit) {
      const edited = this.#edited();
      if (edited === null) return;
      if (JSON.stringify(edited) !== JSON.stringify(this.approval.arguments)) payload.editedArgs = edited;
    }
    this.element.closest("article").focus(); // the buttons are about to go
    this.ui.actions.decide(this.run, this.approval, payload);
  }

  /** The arguments as they are written now; null, and why, where they are no JSON object. */
  #edited() {
    try {
      const value = JSON.parse(this.args.value);
      if (value !== null && typeof value === "object" && !Array.isArray(value)) return value;
      throw new SyntaxError(typeof value);
    } catch (error) {
      setText(this.fault, fill(this.ui.words.approvalBadJson, { fault: error.message }));
      this.args.focus();
      return null;
    }
  }
}
