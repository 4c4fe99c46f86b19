// Large view of an image, with a table of its boxes.

/**
 * The dialog of the page: {open(image, among), redraw()}.
 *
 * Previous and Next go through the images `among`. The gallery shares `state.threshold`; `setThreshold` changes it.
 */
function buildViewer(state, classes, setThreshold) {
  const dialog = byId("viewer");
  const slider = byId("viewer-threshold");
  let images = [];
  let place = 0;
  let svg = null;
  let chosen = null;

  const draw = () => {
    if (!dialog.open) return;
    const image = images[place];
    const { width, height } = svg.getBoundingClientRect();
    if (width === 0 || height === 0) return;
    const tag = (box, index) => {
      if (index === chosen) return `${index + 1} ${classes[box.label].name}`;
      return box.kind in KINDS ? `${codeOfKind(box.kind)} ${index + 1}` : "";
    };
    drawBoxes(svg, image, boxesAt(image, state.threshold), { unit: unitFor(image, width, height), tag, chosen });
  };
  const choose = (index) => {
    if (chosen === index) return;
    chosen = index;
    draw();
  };
  const list = () => {
    chosen = null;
    const boxes = boxesAt(images[place], state.threshold);
    byId("viewer-boxes").replaceChildren(tableOfBoxes(boxes, classes, choose));
    byId("viewer-threshold-value").textContent = exact(state.threshold);
    slider.value = state.threshold;
    byId("viewer-about").textContent =
      `Image ${count(place + 1)} of ${count(images.length)}. ` +
      `At threshold ${exact(state.threshold)}: ${mistakesInWords(boxes)}.`;
  };
  const show = () => {
    const image = images[place];
    byId("viewer-title").replaceChildren(nameElement(image.file_name));
    svg = pictureOf(image);
    byId("viewer-picture").replaceChildren(svg);
    byId("viewer-previous").disabled = place === 0;
    byId("viewer-next").disabled = place === images.length - 1;
    list();
    draw();
  };
  const step = (by) => {
    const next = place + by;
    if (next < 0 || next >= images.length) return;
    place = next;
    show();
    if (document.activeElement === document.body) byId("viewer-close").focus(); // the button at the end is disabled
  };

  byId("viewer-previous").addEventListener("click", () => step(-1));
  byId("viewer-next").addEventListener("click", () => step(1));
  byId("viewer-close").addEventListener("click", () => dialog.close());
  slider.addEventListener("input", () => setThreshold(Number(slider.value)));
  dialog.addEventListener("keydown", (event) => {
    if (event.target === slider || event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    step(by);
  });
  new ResizeObserver(oncePerFrame(draw)).observe(byId("viewer-picture"));

  return {
    open(image, among) {
      images = among.includes(image) ? among : [image];
      place = images.indexOf(image);
      dialog.showModal();
      show();
      byId("viewer-close").focus();
    },
    redraw() {
      if (!dialog.open) return;
      list();
      draw();
    },
  };
}

/** A table row for each box, numbered as in the picture. A focused or hovered row highlights its box. */
function tableOfBoxes(boxes, classes, choose) {
  if (boxes.length === 0) return element("p", { class: "note" }, "No boxes at this threshold.");
  const columns = [
    {
      head: "box",
      kind: "count",
      value: (box) => boxes.indexOf(box) + 1,
      shown: (box) => element("button", { type: "button", class: "plain" }, String(boxes.indexOf(box) + 1)),
    },
    { head: "what", kind: "text", value: whatIs, shown: (box) => withBadge(box) },
    {
      head: "class",
      kind: "text",
      value: (box) => classes[box.label].name,
      shown: (box) => nameElement(classes[box.label].name),
    },
    { head: "score", kind: "fraction", value: (box) => box.score },
    { head: "IoU", kind: "fraction", value: (box) => box.iou },
  ];
  const table = buildTable(columns, boxes);
  [...table.tBodies[0].rows].forEach((row, index) => {
    row.addEventListener("focusin", () => choose(index));
    row.addEventListener("pointerenter", () => choose(index));
  });
  table.addEventListener("focusout", () => choose(null));
  table.addEventListener("pointerleave", () => choose(null));
  return table;
}

const whatIs = (box) => ({ crowd: "crowd", found: "found object", missed: "missed" })[box.kind] || nameOfKind(box.kind);

function withBadge(box) {
  const node = element("span", {});
  if (box.kind in KINDS) node.append(badge(box.kind), " ");
  node.append(whatIs(box));
  return node;
}

/** "wrong class 1, missed 3". */
function mistakesInWords(boxes) {
  const counts = countKinds(boxes);
  if (counts.length === 0) return "no mistakes";
  return counts.map(([kind, number]) => `${nameOfKind(kind)} ${count(number)}`).join(", ");
}
