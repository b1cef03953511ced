// "Try it": one conversation with an agent over the public API, as a signed-in user.
"use strict";

window.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("try");
  const text = page.querySelector("textarea");
  const send = page.querySelector("button[type=submit]");
  const stop = document.getElementById("try-stop");
  let session = null;
  let request = null;

  page.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const message = text.value.trim();
    if (message && !request) talk(message);
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      page.querySelector("form").requestSubmit();
    }
  });
  stop.addEventListener("click", () => request?.abort());

  async function talk(message) {
    text.value = "";
    show("user", "You").textContent = message;
    const answer = show("assistant", page.dataset.agent);
    request = new AbortController();
    setBusy(true);
    try {
      await stream(message, answer, request.signal);
    } catch (error) {
      if (error.name !== "AbortError") fail(answer, error.message);
    }
    request = null;
    setBusy(false);
  }

  function setBusy(busy) {
    send.disabled = busy;
    stop.disabled = !busy;
    if (!busy) text.focus();
  }

  function show(role, name) {
    const item = document.getElementById("try-message").content.firstElementChild.cloneNode(true);
    item.classList.add(`said-${role}`);
    item.querySelector("strong").textContent = name;
    page.querySelector(".transcript").append(item);
    item.scrollIntoView({ block: "nearest" });
    return item.querySelector(".said-text");
  }

  function fail(answer, message) {
    const note = document.createElement("p");
    note.className = "failure";
    note.textContent = message;
    answer.after(note);
  }

  async function stream(message, answer, signal) {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      signal,
      headers: {
        "Content-Type": "application/json",
        "X-Tenant": page.dataset.tenant,
        "X-CSRFToken": page.querySelector("[name=csrfmiddlewaretoken]").value,
      },
      body: JSON.stringify({
        model: page.dataset.agent,
        stream: true,
        messages: [{ role: "user", content: message }],
        ...(session ? { metadata: { session_id: session } } : {}),
      }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    session = response.headers.get("X-Session-Id") || session;
    const run = response.headers.get("X-Run-Id");
    link(run);
    const asking = setInterval(() => ask(run, answer, signal), 2000);
    try {
      for await (const data of events(response.body)) {
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        answer.textContent += chunk.choices?.[0]?.delta?.content ?? "";
      }
    } finally {
      clearInterval(asking);
      answer.parentElement.querySelectorAll(".asks").forEach((note) => note.remove());
    }
  }

  // What the run waits for: each call of a tool that a person must approve, with the page on which to decide.
  async function ask(run, answer, signal) {
    const headers = { "X-Tenant": page.dataset.tenant };
    const response = await fetch(`/v1/approvals?status=pending&run_id=${run}`, { headers, signal }).catch(() => null);
    if (!response?.ok || signal.aborted) return;
    const notes = (await response.json()).data.map((approval) => {
      const note = document.createElement("p");
      const anchor = document.createElement("a");
      note.className = "notice asks";
      note.setAttribute("role", "status");
      anchor.className = "text-link";
      anchor.href = `${document.getElementById("try-approval-url").textContent}${approval.id}/change/`;
      anchor.target = "_blank";
      anchor.textContent = `It waits for a person to approve ${approval.tool}`;
      note.append(anchor);
      return note;
    });
    answer.parentElement.querySelectorAll(".asks").forEach((note) => note.remove());
    if (request) answer.after(...notes);
  }

  // The data of each server-sent event.
  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const parts = held.split("\n\n");
      held = parts.pop();
      for (const part of parts) {
        const lines = part.split("\n").filter((line) => line.startsWith("data: "));
        if (lines.length) yield lines.map((line) => line.slice(6)).join("\n");
      }
    }
  }

  function link(run) {
    const links = [
      ["Transcript", "try-session-url", session],
      ["Run", "try-run-url", run],
    ].filter(([, , id]) => id);
    document.getElementById("try-links").replaceChildren(
      ...links.flatMap(([title, base, id]) => {
        const anchor = document.createElement("a");
        anchor.className = "text-link";
        anchor.href = `${document.getElementById(base).textContent}${id}/change/`;
        anchor.textContent = title;
        return [anchor, " "];
      })
    );
  }
});
