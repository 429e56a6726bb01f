// Beside each button stands the command line that does the same: for what is chosen just now.
// A field says in data-flag how the command takes its value: as an option, or, if that is empty,
// as an argument. What a field leaves empty is left out, but for an argument.

const PLAIN = /^[A-Za-z0-9@%+=:,./_-]+$/;

/** A word as a shell reads it back. */
function quoted(word) {
  return PLAIN.test(word) ? word : "'" + word.replaceAll("'", "'\"'\"'") + "'";
}

function lineOf(form, command) {
  const options = [], words = [];
  for (const field of form.elements) {
    const flag = field.dataset.flag;
    const value = field.value.trim();
    if (flag === undefined || field.disabled) continue;
    if (flag === "") words.push(value);
    else if (field.type !== "checkbox") options.push(...(value ? [flag, quoted(value)] : []));
    else if (field.checked) options.push(flag);
  }
  // What begins with a dash would be taken for an option.
  if (words.some((word) => word.startsWith("-"))) options.push("--");
  return [command, ...options, ...words.map(quoted)].join(" ");
}

/** Write the command lines of all forms within `root`. */
export function showCommands(root) {
  for (const shown of root.querySelectorAll("form code[data-command]")) {
    const line = lineOf(shown.closest("form"), shown.dataset.command);
    if (shown.textContent !== line) shown.textContent = line;
  }
}

/** Keep them so, whatever is typed and chosen. */
export function followForms(root) {
  document.documentElement.dataset.follows = "yes";  // so no line says that it does not
  showCommands(root);
  root.addEventListener("input", () => showCommands(root));
}
