// Makes part of a page what it should be now, and leaves alone whatever is that already: so what
// somebody has typed, chosen, opened or scrolled stays, and no animation starts again.

const ELEMENT = Node.ELEMENT_NODE;
// What a reader has opened is the reader's, whatever a new page says.
const THEIRS = new Map([["DETAILS", "open"]]);

/** By what an element is known again among its siblings; "" for none. */
function keyOf(node) {
  if (node.nodeType !== ELEMENT) return "";
  return node.id || node.dataset.key || (node.nodeName === "FORM" ? node.getAttribute("action") : "");
}

function isAlike(node, wanted) {
  return node.nodeType === wanted.nodeType && node.nodeName === wanted.nodeName;
}

function morphAttributes(node, wanted) {
  const theirs = THEIRS.get(node.nodeName);
  for (const { name } of [...node.attributes]) {
    if (name !== theirs && !wanted.hasAttribute(name)) node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (name !== theirs && node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
}

/** The first sibling from `here` on, before the next with a key, that may become `wanted`. */
function findAlike(here, wanted) {
  let node = here;
  while (node && !keyOf(node) && !isAlike(node, wanted)) node = node.nextSibling;
  return node && !keyOf(node) ? node : null;
}

/** Remove the siblings without a key from `here` up to `end`; what then stands there. */
function dropUntil(here, end) {
  let node = here;
  while (node && node !== end && !keyOf(node)) {
    const gone = node;
    node = node.nextSibling;
    gone.remove();
  }
  return node;
}

function morphChildren(node, wanted) {
  const names = new Set([...wanted.children].map(keyOf));
  const known = new Map();
  for (const child of [...node.children]) {
    const name = keyOf(child);
    if (!name) continue;
    if (names.has(name) && !known.has(name)) known.set(name, child);
    else child.remove();
  }
  let here = node.firstChild;
  for (const want of [...wanted.childNodes]) {
    const name = keyOf(want);
    let have = name ? known.get(name) : findAlike(here, want);
    known.delete(name);
    if (have && !isAlike(have, want)) {
      if (have === here) here = here.nextSibling;
      have.remove();
      have = null;
    }
    if (!have) {
      node.insertBefore(want, here);
      continue;
    }
    here = dropUntil(here, have);
    if (have === here) here = here.nextSibling;
    else node.insertBefore(have, here);
    morph(have, want);
  }
  while (here) {
    const gone = here;
    here = here.nextSibling;
    gone.remove();
  }
}

function morph(node, wanted) {
  if (node.nodeType !== ELEMENT) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  morphAttributes(node, wanted);
  morphChildren(node, wanted);
}

/**
 * Give `node` the children of `wanted`, of another document in which no script runs. Both are
 * walked once; an element with an id, a data-key, or a form's address is found again among its
 * siblings wherever it stands, any other where it stood. The focus stays where its element does.
 */
export function morphInto(node, wanted) {
  const focused = document.activeElement;
  morphChildren(node, wanted);
  // An element that had to change its place has lost it.
  if (focused !== document.activeElement && node.contains(focused)) focused.focus({ preventScroll: true });
}
