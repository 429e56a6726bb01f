// Keeps the page and its command lines up to date, and takes a sign-in link's code out of the
// address. Everything works without it, by loading pages again.
import { followForms, showCommands } from "./command.js";
import { morphInto } from "./morph.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
let source = null;
let waiting = "";

function isSelecting() {
  // A text that is being selected, to be copied, must not change under the pointer.
  const chosen = window.getSelection();
  return chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode);
}

function show(html) {
  waiting = isSelecting() ? html : "";
  if (waiting) {
    live.textContent = "updates wait while text is selected";
    return;
  }
  // Parsed as a document of its own, in which no script runs and nothing is loaded.
  morphInto(main, new DOMParser().parseFromString(html, "text/html").body);
  showCommands(main);
  live.textContent = "updated " + new Date().toLocaleTimeString();
}

function listen() {
  if (source || document.hidden) return;
  source = new EventSource(location.pathname + location.search);
  source.onmessage = (event) => show(JSON.parse(event.data));
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
  document.addEventListener("selectionchange", () => waiting && show(waiting));
  window.addEventListener("pagehide", stopListening);
  listen();
}
followForms(document.body);
