// Coming by an invitation, and coming back as the guest that one became.

import { asNobody, asPerson } from "./api.js";
import { $, el, icon } from "./dom.js";

const GUESTS = "chat-guests";
const INVITED = "chat-invited";

function stored() {
  try {
    return JSON.parse(localStorage.getItem(GUESTS) ?? "{}");
  } catch {
    return {};
  }
}

export function guestOf(session) {
  return stored()[session] ?? null;
}

export function keepGuest(session, guest) {
  localStorage.setItem(GUESTS, JSON.stringify({ ...stored(), [session]: guest }));
}

export function forgetGuest(session) {
  const { [session]: gone, ...others } = stored();
  localStorage.setItem(GUESTS, JSON.stringify(others));
}

// The secret of the address, which leaves the address at once and waits at `/chat/`, in this tab, for a sign-in.
export function invitation() {
  const given = new URLSearchParams(location.hash.slice(1)).get("invite");
  if (given) {
    sessionStorage.setItem(INVITED, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return given ?? (location.pathname === "/chat/" ? sessionStorage.getItem(INVITED) : null);
}

function used() {
  sessionStorage.removeItem(INVITED);
}

// The tenant that an invitation is of, among those of the person: `asi_<tenant>_…` names it.
export function tenantOf(token, tenants) {
  const id = token.split("_")[1] ?? "";
  return tenants.find((tenant) => tenant.id.replaceAll("-", "") === id) ?? null;
}

// `name` is for somebody who has an account and is no member of that tenant: they come as a guest.
export async function acceptAsPerson(token, name) {
  used();
  return asPerson(null).post("invitations/accept", { token, name: name.slice(0, 80) });
}

function door(...parts) {
  const place = $("door");
  place.replaceChildren(
    el("main", { class: "card" }, el("img", { src: logo(), alt: "", width: "40", height: "40" }), ...parts),
  );
  place.hidden = false;
  $("app").hidden = true;
  $("skip").hidden = true;
}

function logo() {
  return document.querySelector("link[rel=icon]").href;
}

export function refusal(title, sentence, link = { href: "/chat/", text: "Go to my conversations" }) {
  document.title = title;
  door(
    el("h1", { tabindex: "-1" }, title),
    el("p", {}, sentence),
    el("a", { class: "button", href: link.href }, link.text),
  );
  $("door").querySelector("h1").focus();
}

const INVALID = "It may have expired, been used up or been taken back.";

// Whoever is nobody yet may sign in and try again: it may be for members only.
export function refuseInvitation(error, signedIn) {
  const more = signedIn ? "Ask for a new one." : "If it is for members only, sign in; otherwise ask for a new one.";
  const link = signedIn ? undefined : { href: "/chat/login/?next=/chat/", text: "Sign in" };
  if (error.status === 404) refusal("This invitation does not work", `${INVALID} ${more}`, link);
  else refusal("This invitation could not be used", error.message, link);
}

// Asks for a name; resolves with what the server answers. A sign-in comes back to the invitation.
export function welcome(token) {
  document.title = "Join a conversation";
  return new Promise((resolve) => {
    const name = el("input", {
      id: "guest-name",
      required: true,
      maxlength: "80",
      autocomplete: "nickname",
      dir: "auto",
    });
    const fault = el("p", { class: "fault", role: "alert", hidden: true });
    const join = el("button", { type: "submit", class: "button primary" }, "Join as a guest");
    const joining = async (event) => {
      event.preventDefault();
      join.disabled = true;
      try {
        resolve(await asNobody().post("invitations/accept", { token, name: name.value.trim() }));
        used();
      } catch (error) {
        join.disabled = false;
        fault.hidden = false;
        fault.textContent = error.message;
        if (error.status === 404) refuseInvitation(error, false);
      }
    };
    door(
      el("h1", {}, "You are invited to a conversation"),
      el("form", { onsubmit: joining }, fault, el("label", { for: "guest-name" }, "Your name"), name, join),
      el(
        "p",
        { class: "soft" },
        "The others see this name. Do you have an account? ",
        el("a", { href: "/chat/login/?next=/chat/" }, "Sign in"),
      ),
    );
    name.focus();
  });
}
