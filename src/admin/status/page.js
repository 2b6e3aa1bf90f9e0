// Fetches the page anew and puts its middle in place of the old one. Without
// JavaScript the browser reloads the whole page instead.
"use strict";
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.body.classList.remove("is-stale");
  } catch {
    document.body.classList.add("is-stale");
  }
}
setInterval(refresh, 5000);
document.addEventListener("visibilitychange", refresh);
