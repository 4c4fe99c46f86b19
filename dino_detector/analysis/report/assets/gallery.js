// The worst images as cards, with filters by mistake and boxes at a threshold.

const CARDS_AT_ONCE = 24;
const CARD_WIDTH = 260;

/** Builds the cards and their controls; returns {has(id), open(id)}. */
function buildGallery(gallery, classes) {
  const untouched = { threshold: gallery.threshold, kind: "", label: "", low: 0, high: 1, most: CARDS_AT_ONCE };
  const state = { ...untouched };
  const cards = new Map();
  const list = byId("gallery-cards");
  const more = byId("gallery-more");

  const fitting = () =>
    gallery.images.filter((image) => boxesAt(image, state.threshold).some((box) => fits(box, state)));
  const cardOf = (image) => {
    if (!cards.has(image))
      cards.set(
        image,
        buildCard(image, () => viewer.open(image, fitting())),
      );
    return cards.get(image);
  };
  const render = () => {
    const images = fitting();
    const shown = images.slice(0, state.most).map(cardOf);
    const items = shown.map((card) => card.item);
    if (items.length !== list.children.length || items.some((item, index) => item !== list.children[index])) {
      list.replaceChildren(...items);
    }
    shown.forEach((card) => card.update(state.threshold));
    more.hidden = shown.length === images.length;
    more.textContent = `Show ${Math.min(CARDS_AT_ONCE, images.length - shown.length)} more`;
    byId("gallery-count").textContent = countInWords(shown.length, images.length, gallery.images.length);
    viewer.redraw();
  };
  const renderSoon = oncePerFrame(render);
  const change = (changes) => {
    Object.assign(state, changes);
    byId("gallery-threshold").value = state.threshold;
    byId("gallery-threshold-value").textContent = exact(state.threshold);
    renderSoon();
  };
  const viewer = buildViewer(state, classes, (threshold) => change({ threshold }));

  buildControls(classes, change, () => change(untouched));
  more.addEventListener("click", () => {
    const next = list.children.length;
    Object.assign(state, { most: state.most + CARDS_AT_ONCE });
    render();
    list.children[next].querySelector("button").focus();
  });
  for (const id of ["gallery-threshold", "viewer-threshold"]) byId(id).min = gallery.lowest; // lower scores are not here
  byId("gallery-threshold").defaultValue = gallery.threshold;
  buildLegend(byId("gallery-legend"));
  change({});
  const byImageId = new Map(gallery.images.map((image) => [image.id, image]));
  return {
    has: (id) => byImageId.has(id),
    open: (id) => viewer.open(byImageId.get(id), fitting()),
  };
}

/** "24 of 31 images shown; the other 169 of this report have no such mistake at this threshold." */
function countInWords(shown, fitting, all) {
  const others = all - fitting;
  const verb = others === 1 ? "has" : "have";
  const rest = `; the other ${count(others)} of this report ${verb} no such mistake at this threshold`;
  return `${count(shown)} of ${counted(fitting, "image", "images")} shown${others === 0 ? "" : rest}.`;
}

/** Whether a box is a mistake that passes the filters of kind, class and score. */
function fits(box, { kind, label, low, high }) {
  if (!(box.kind in KINDS)) return false;
  if (kind !== "" && box.kind !== kind) return false;
  if (label !== "" && box.label !== Number(label)) return false;
  if (box.score === null) return low <= 0 && high >= 1;
  return low <= box.score && box.score <= high;
}

/** Ties the fields to `change(changes)` and the Reset button to `reset()`. */
function buildControls(classes, change, reset) {
  const ordered = classes.map((row, label) => [label, row.name]).sort((a, b) => a[1].localeCompare(b[1]));
  addOptions(
    byId("gallery-kind"),
    Object.entries(KINDS).map(([kind, { code, name }]) => [kind, `${name} (${code})`]),
  );
  addOptions(byId("gallery-class"), ordered);
  const on = (id, event, changes) => byId(id).addEventListener(event, () => change(changes(byId(id).value)));
  const score = (text, otherwise) => (text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));
  on("gallery-threshold", "input", (value) => ({ threshold: Number(value) }));
  on("gallery-kind", "change", (kind) => ({ kind, most: CARDS_AT_ONCE }));
  on("gallery-class", "change", (label) => ({ label, most: CARDS_AT_ONCE }));
  on("gallery-low", "input", (value) => ({ low: score(value, 0), most: CARDS_AT_ONCE }));
  on("gallery-high", "input", (value) => ({ high: score(value, 1), most: CARDS_AT_ONCE }));
  byId("gallery-controls").addEventListener("reset", reset);
  byId("gallery-controls").addEventListener("submit", (event) => event.preventDefault());
}

/** A card: {item, update(threshold)}. */
function buildCard(image, open) {
  const svg = pictureOf(image);
  const chips = element("span", { class: "chips" });
  const name = element(
    "span",
    { class: "name", title: image.file_name },
    nameElement(image.file_name.split("/").pop() || image.file_name),
  );
  const button = element("button", { type: "button", class: "card" }, svg, name, chips);
  button.addEventListener("click", open);
  const unit = unitFor(image, CARD_WIDTH, (CARD_WIDTH * 3) / 4);
  let drawn = null;
  const update = (threshold) => {
    if (drawn === threshold) return;
    drawn = threshold;
    const boxes = boxesAt(image, threshold);
    drawBoxes(svg, image, boxes, { unit, tag: (box) => (box.kind in KINDS ? codeOfKind(box.kind) : "") });
    chips.replaceChildren(...countKinds(boxes).map(chipOf));
  };
  return { item: element("li", {}, button), update };
}

/** The number of mistakes of a kind, with its code and, for screen readers, its name. */
const chipOf = ([kind, number]) =>
  element(
    "span",
    {},
    badge(kind),
    ` ${count(number)}`,
    element("span", { class: "hidden-text" }, ` ${nameOfKind(kind)}`),
  );
