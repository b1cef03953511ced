// Before the first paint, so that nobody sees the other theme flash.
"use strict";
try {
  const theme = localStorage.getItem("chat-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing shows the system's theme.
}
