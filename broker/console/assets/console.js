// Keeps the page up to date, and takes a sign-in link's code out of the address.
// Everything works without it, by loading pages again.
"use strict";
(() => {
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  let source = null;

  function isBusy() {
    // Nothing is taken from under the hands of somebody who fills in a form or selects text.
    const active = document.activeElement;
    const edits = active && main.contains(active) && active.matches("input, select, textarea");
    const chosen = window.getSelection();
    return edits || (chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode));
  }

  function show(html) {
    // Parsed as a document of its own, in which no script runs and nothing is loaded.
    const parsed = new DOMParser().parseFromString(html, "text/html");
    for (const details of main.querySelectorAll("details[open][id]")) {
      const twin = parsed.getElementById(details.id);
      if (twin) twin.open = true;
    }
    main.replaceChildren(...parsed.body.childNodes);
    live.textContent = "updated " + new Date().toLocaleTimeString();
  }

  function listen() {
    if (source || document.hidden) return;
    source = new EventSource(location.pathname + location.search);
    source.onmessage = (event) => {
      if (!isBusy()) show(JSON.parse(event.data));
    };
    source.onerror = () => {
      live.textContent = "the broker does not answer, or the session has ended";
    };
  }

  function stopListening() {
    if (source) source.close();
    source = null;
  }

  function signIn(form) {
    const code = location.hash.slice(1);
    if (!code) return;
    history.replaceState(null, "", location.pathname);
    form.elements.code.value = code;
    form.submit();
  }

  const form = document.getElementById("sign-in");
  if (form) {
    signIn(form);
    window.addEventListener("hashchange", () => signIn(form));
  } else if (main.dataset.live) {
    document.addEventListener("visibilitychange", () => (document.hidden ? stopListening() : listen()));
    window.addEventListener("pagehide", stopListening);
    listen();
  }
})();
