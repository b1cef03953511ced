// Elements are made, never parsed: every text of a person or a model arrives as a text node.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  plus: "M12 5v14M5 12h14",
  archive: "M4 5h16v4H4zM6 9v10h12V9M10 13h4",
  back: "M19 12H5M11 6l-6 6 6 6",
  share: "M16 8a3 3 0 1 0-3-3M8 11a3 3 0 1 0 0 3M16 21a3 3 0 1 0-3-3M8 11l5-4.5M8 14l5 3",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
};

export const $ = (id) => document.getElementById(id);

// `on…` are listeners, `data` is the dataset, the rest are attributes; null and false leave one out.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function icon(name) {
  const made = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 24 24",
    class: name === "more" ? "glyph thick" : "glyph",
    "aria-hidden": "true",
  })) {
    made.setAttribute(key, value);
  }
  path.setAttribute("d", ICONS[name]);
  made.append(path);
  return made;
}

let noticed;

// For everybody, screen readers too. What went wrong stays longer.
export function notice(text, { fault = false } = {}) {
  const place = document.querySelector("dialog[open] .dialog-notice") ?? $("notice");
  clearTimeout(noticed);
  place.textContent = text;
  place.classList.toggle("fault", fault);
  if (text) noticed = setTimeout(() => (place.textContent = ""), fault ? 12000 : 5000);
}

// An action of a button: what fails is told and not thrown.
export function acting(work) {
  return async (...given) => {
    try {
      return await work(...given);
    } catch (error) {
      notice(error.message, { fault: true });
      return undefined;
    }
  };
}

export function initials(name) {
  const words = name
    .trim()
    .split(/[\s._@-]+/u)
    .filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0] ?? "?"];
  return letters
    .map((word) => [...word][0])
    .join("")
    .toLocaleUpperCase();
}

// One of eight colours, always the same for the same name.
export function avatar(name) {
  const sum = [...name].reduce((total, letter) => (total * 31 + letter.codePointAt(0)) % 9973, 7);
  return el("span", { class: "avatar", "aria-hidden": "true", data: { tone: String(sum % 8) } }, initials(name));
}

export function option(value, text, chosen = false) {
  return el("option", { value, selected: chosen }, text);
}

const DAY = 86_400_000;

function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

// The heading under which something of this time is listed.
export function dayOf(time) {
  const days = Math.round((midnight(new Date()) - midnight(new Date(time))) / DAY);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return "This week";
  if (days < 31) return "This month";
  return new Date(time).toLocaleDateString(document.documentElement.lang, { month: "long", year: "numeric" });
}

export function when(time) {
  return new Date(time).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
}
