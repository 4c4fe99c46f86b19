// Elements of the page. Text of the user's goes in as text, never as markup.

/** The element with this id, which page.html has. */
const byId = (id) => document.getElementById(id);

/** An HTML element with attributes and children: nodes, strings, or null for none. */
function element(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function shape(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A name of the user's as an element; text from right to left stays within it. */
const nameElement = (name) => element("bdi", {}, name);

/** The same inside a longer string, between "first strong isolate" and "pop directional isolate". */
const isolated = (name) => `\u2068${name}\u2069`;

/** A bar from 0 to a fraction of the width of its cell. */
function bar(share) {
  const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return shape("svg", { class: "bar", "aria-hidden": "true" }, shape("rect", { width, height: "100%" }));
}

/** Options of a select element: pairs of value and text. */
function addOptions(select, options) {
  select.append(...options.map(([value, text]) => element("option", { value }, text)));
}

/** Calls `action` at most once a frame, however often it is asked for. */
function oncePerFrame(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      action();
    });
  };
}
