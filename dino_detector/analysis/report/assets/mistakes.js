// Kinds of mistakes, and the mistakes of an image at a threshold.

/** {code, name, meaning} of each kind of mistake by its key, in the order of TIDE. */
const KINDS = WORDS.mistakes;

const nameOfKind = (kind) => (KINDS[kind] || WORDS.other[kind]).name;
const codeOfKind = (kind) => (KINDS[kind] || WORDS.other[kind]).code;

/** A badge with the code of a kind, beside its name. */
const badge = (kind) => element("span", { class: `code ${kind}`, "aria-hidden": "true" }, codeOfKind(kind));

/**
 * The boxes of an image at a threshold, mistakes first: {kind, label, score, iou, box, truth}.
 * Objects have no score. The kind of an object is "found", "missed" or "crowd".
 */
function boxesAt(image, threshold) {
  const objects = image.truth.map((truth) => {
    const kind = truth.crowd ? "crowd" : truth.found === null || truth.found < threshold ? "missed" : "found";
    return { kind, label: truth.label, score: null, iou: null, box: truth.box, truth: true };
  });
  const detections = image.detections
    .filter((detection) => detection.score >= threshold)
    .sort((a, b) => b.score - a.score)
    .map((detection) => ({ ...detection, truth: false }));
  const all = [...objects, ...detections];
  return [...all.filter((box) => box.kind in KINDS), ...all.filter((box) => !(box.kind in KINDS))];
}

/** Pairs of a kind of mistake and its number among the boxes, without zeros. */
function countKinds(boxes) {
  return Object.keys(KINDS)
    .map((kind) => [kind, boxes.filter((box) => box.kind === kind).length])
    .filter(([, number]) => number > 0);
}
