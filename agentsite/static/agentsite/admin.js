// Behaviour that the pages need under `script-src 'self'`, and by keyboard alone.
"use strict";

// Alpine's CSP build evaluates no JavaScript: components are registered by name, and the three expressions
// of unfold's templates that it cannot read are replaced before it starts.
document.addEventListener("alpine:init", () => {
  Alpine.data("theme", theme);
  Alpine.data("searchForm", searchForm);
  Alpine.data("searchDropdown", searchDropdown);
  Alpine.data("searchCommand", () => ({ ...searchCommand(), ...palette }));
  Alpine.data("page", () => ({
    activeTab: "general",
    sidebarMobileOpen: false,
    sidebarDesktopOpen: localStorage.getItem("sidebarDesktopOpen") !== "0",
    init() {
      this.$watch("sidebarDesktopOpen", (open) => localStorage.setItem("sidebarDesktopOpen", open ? "1" : "0"));
    },
  }));
  document.body.setAttribute("x-data", "page");
  document.body.removeAttribute("x-init");
  document.querySelectorAll("form").forEach((form) => form.removeAttribute("x-bind:action"));
  document.getElementById("command-submit")?.setAttribute("aria-label", "Search");
  document
    .getElementById("search-input-command")
    ?.setAttribute("x-on:keydown.enter.prevent", "$event.metaKey || $event.ctrlKey || selectItem(false)");
});

const palette = {
  selectItem(addHistory, openInNewTab = false) {
    const item = this.items?.[Math.max(0, this.currentIndex - 1)];
    const link = item?.querySelector("a");
    if (!link) return;
    if (openInNewTab) window.open(link.href, "_blank", "noopener");
    else window.location = link.href;
  },
};

// What can be clicked can be reached and pressed by keyboard, and has a name; icons are letters to a screen reader.
const ICON = ".material-symbols-outlined";
const NAMES = { close: "Close", more_horiz: "More actions", dock_to_right: "Menu", add: "Add", search: "Search", hub: "Overview" };

function nameByIcon(element, icon) {
  const text = icon.textContent.trim();
  const named = element.title || element.hasAttribute("aria-label") || element.textContent.trim() !== text;
  if (!named) element.setAttribute("aria-label", NAMES[text] || text.replaceAll("_", " "));
}

function nameIcons(root) {
  for (const icon of root.querySelectorAll(`${ICON}:not([aria-hidden])`)) {
    const owner = icon.closest("a, button, [role=button]");
    if (owner) nameByIcon(owner, icon);
    if (owner !== icon) icon.setAttribute("aria-hidden", "true");
  }
}

function makeReachable(root) {
  const clickable = root.querySelectorAll("[x-on\\:click]:not(button, input, select, textarea, a[href])");
  for (const element of clickable) {
    if (element.hasAttribute("tabindex") || element.id === "changelist-filter-close") continue;
    element.tabIndex = 0;
    element.setAttribute("role", "button");
  }
  nameIcons(root);
  root.querySelectorAll(".select2-search__field:not([aria-label])").forEach((field) => {
    field.setAttribute("aria-label", "Search");
  });
  root.querySelectorAll("select.select2-hidden-accessible").forEach(nameSelect2);
}

// select2 puts its own box after the select and names it by what is chosen, which may be nothing.
function nameSelect2(select) {
  const box = select.nextElementSibling?.querySelector(".select2-selection");
  if (!box?.hasAttribute("aria-labelledby")) return;
  const label = (select.labels?.[0] || select.closest(".flex-col, li, div")?.querySelector("label, h3"))?.textContent.trim();
  for (const part of [box, box.querySelector(".select2-selection__rendered")]) {
    part?.setAttribute("aria-label", label || "Choose");
    part?.removeAttribute("aria-labelledby");
  }
}

document.addEventListener("keydown", (event) => {
  const element = event.target.closest?.("[role=button][tabindex]");
  if (!element || (event.key !== "Enter" && event.key !== " ") || event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  element.click();
});

// Small things that other sites do with inline handlers.
document.addEventListener("change", (event) => {
  const element = event.target;
  if (element.matches?.("select[data-goto]")) window.location = element.value;
  if (element.matches?.("select[data-submit]")) element.form.submit();
});

document.addEventListener("click", async (event) => {
  const element = event.target.closest?.("[data-copy], [data-schema-add], [data-schema-remove], [data-schema-move]");
  if (!element) return;
  if (element.dataset.copy) {
    await copy(document.querySelector(element.dataset.copy));
    element.textContent = "Copied";
  } else if (element.dataset.schemaRemove) {
    removeRow(element);
  } else if (element.dataset.schemaMove) {
    moveRow(element);
  } else {
    addRow(element.closest("[data-schema-list]"));
  }
});

// The clipboard exists on secure origins only; elsewhere the text is selected and copied the old way.
async function copy(source) {
  if (navigator.clipboard) return navigator.clipboard.writeText(source.textContent);
  getSelection().selectAllChildren(source);
  document.execCommand("copy");
}

// A list of objects: the blank row of the <template> is copied under the next index. A removed row keeps its index.
function addRow(list) {
  const count = list.querySelector(`:scope > input[name$="-count"]`);
  const html = list.querySelector(":scope > template").innerHTML;
  const own = `${list.dataset.schemaList}-__row__`;
  const rows = list.querySelector(":scope > .schema-rows");
  rows.insertAdjacentHTML("beforeend", html.replaceAll(own, `${list.dataset.schemaList}-${count.value}`));
  count.value = Number(count.value) + 1;
  rows.lastElementChild.querySelector("input:not([type=hidden]), textarea, select")?.focus();
}

// The order of the rows is that of their fields in the page.
function moveRow(button) {
  const row = button.closest(".schema-row");
  const rows = [...row.parentElement.children].filter((child) => child.matches(".schema-row"));
  const up = button.dataset.schemaMove === "up";
  const other = rows[rows.indexOf(row) + (up ? -1 : 1)];
  if (!other) return;
  if (up) other.before(row);
  else other.after(row);
  const ended = getComputedStyle(button).visibility === "hidden"; // it cannot move further
  (ended ? row.querySelector(`[data-schema-move=${up ? "down" : "up"}]`) : button).focus();
  row.querySelector("input")?.dispatchEvent(new Event("change", { bubbles: true })); // there is something to save
}

function removeRow(button) {
  const marker = document.createElement("input");
  marker.type = "hidden";
  marker.name = `${button.dataset.schemaRemove}-removed`;
  marker.value = "1";
  button.closest(".schema-row").replaceWith(marker);
}

// A form that came back with faults starts at the first of them.
function showFirstFault() {
  const fault = document.querySelector("[aria-invalid=true]:not([type=hidden])") || document.querySelector(".schema-error");
  if (!fault) return;
  fault.scrollIntoView({ block: "nearest" });
  fault.focus({ preventScroll: true });
}

window.addEventListener("load", showFirstFault); // after Django's script, which goes to the first field
window.addEventListener("DOMContentLoaded", () => {
  makeReachable(document);
  // unfold takes every form row that htmx brings for one of an inline formset, and fails where there is none.
  document.body.addEventListener("htmx:afterSettle", (event) => {
    if (!event.target.dataset?.inlineFormset) event.stopPropagation();
  });
  new MutationObserver((changes) => {
    if (changes.some((change) => change.addedNodes.length)) makeReachable(document);
  }).observe(document.body, { childList: true, subtree: true });
});
