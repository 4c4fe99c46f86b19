// Boxes over a picture, in pixels of the original image.

/** Rows of the legend: class of the line, kind of its colour, code, and meaning. */
const LINES = [
  ["found truth", "correct", "", "object that is found: thin, dashed"],
  ["missed truth", "missed", "M", "object that is missed: dashed"],
  ["crowd truth", "correct", "", "crowd, which is never missed: dotted"],
  ["correct", "correct", "", "correct detection: thin, solid"],
  ...["classification", "localisation", "both", "duplicate", "background"].map((kind) => [
    kind,
    kind,
    KINDS[kind].code,
    `detection, ${KINDS[kind].name}: solid`,
  ]),
  ["ignored", "ignored", "", "detection in a crowd, which is not counted: thin, solid, grey"],
];

/** The kind that a box takes its colour from. */
const colourOf = (kind) => (kind === "found" || kind === "crowd" ? "correct" : kind);

/** An SVG in pixels of the original image, with its thumbnail if it has one. */
function pictureOf(image) {
  const svg = shape("svg", {
    class: "picture",
    viewBox: `0 0 ${image.width} ${image.height}`,
    "aria-hidden": "true",
  });
  if (image.thumbnail) {
    const size = { width: image.width, height: image.height, preserveAspectRatio: "none" };
    svg.append(shape("image", { href: image.thumbnail, ...size }));
  }
  svg.append(shape("g", { class: "boxes" }));
  return svg;
}

/**
 * Draws boxes into a picture of `pictureOf`. `unit` is the size of a screen pixel in pixels of the image; `tag(box,
 * index)` returns the text at a box or ""; `chosen` is the index of the highlighted box or null.
 */
function drawBoxes(svg, image, boxes, { unit, tag, chosen = null }) {
  // the dark line of background needs a light edge on a photograph
  const outlines = { dark: "", light: "" };
  const lines = [];
  const tags = [];
  boxes.forEach((each, index) => {
    const [x, y, width, height] = each.box;
    outlines[each.kind === "background" ? "light" : "dark"] += `M${x} ${y}h${width}v${height}h${-width}z`;
    const names = ["box", each.kind, colourOf(each.kind), each.truth ? "truth" : "", index === chosen ? "chosen" : ""];
    lines.push(shape("rect", { class: names.join(" ").trim(), x, y, width, height }));
    const text = tag(each, index);
    if (text) tags.push(tagOf(text, each, image, unit));
  });
  svg.querySelector(".boxes").replaceChildren(
    shape("path", { class: "halo", d: outlines.dark }),
    shape("path", { class: "halo light", d: outlines.light }),
    ...lines.reverse(), // mistakes come first, and lie on top
    ...tags.reverse(),
  );
}

/** A label above the box, or inside it at the edge of the image. */
function tagOf(text, { box, kind }, image, unit) {
  const size = 11 * unit;
  const height = 14 * unit;
  const width = (text.length * 0.64 + 0.7) * size;
  const x = Math.max(0, Math.min(box[0], image.width - width));
  const y = Math.max(0, box[1] >= height ? box[1] - height : box[1]);
  const colour = colourOf(kind);
  return shape(
    "g",
    {},
    shape("rect", { class: `tag ${colour}`, x, y, width, height, rx: 2 * unit }),
    shape(
      "text",
      { class: `tag-text ${colour}`, x: x + width / 2, y: y + 10.8 * unit, "font-size": size, "text-anchor": "middle" },
      text,
    ),
  );
}

/** The size of a screen pixel in pixels of an image that is shown with this width and height. */
const unitFor = (image, width, height) => Math.max(image.width / width, image.height / height);

/** A sample of each line with its meaning. */
function buildLegend(list) {
  for (const [line, kind, code, meaning] of LINES) {
    const image = { width: 58, height: 35, thumbnail: null };
    const svg = pictureOf(image);
    const truth = line.endsWith(" truth");
    const box = { box: [9, 11, 40, 18], kind: truth ? line.split(" ")[0] : kind, truth };
    drawBoxes(svg, image, [box], { unit: 1, tag: () => code });
    list.append(element("li", {}, svg, element("span", {}, meaning)));
  }
}
