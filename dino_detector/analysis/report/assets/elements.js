// Elements of the page. The user's text is inserted as text, never as markup.

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
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A name from the user's files, in an element that contains right-to-left text. */
const nameElement = (name) => element("bdi", {}, name);

/** A name inside a longer string, between the characters FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE. */
const isolated = (name) => `\u2068${name}\u2069`;

/** A bar from 0 to a fraction of the width of its cell. */
function bar(share) {
  const rect = shape("rect", { width: `${100 * share}%`, height: "100%" });
  return shape("svg", { class: "bar", "aria-hidden": "true" }, rect);
}

/** Options of a select element: pairs of value and text. */
function addOptions(select, options) {
  select.append(...options.map(([value, text]) => element("option", { value }, text)));
}

/** A function that calls `action` once in the next frame, however often it is called before. */
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
