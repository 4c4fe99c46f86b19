// Kinds of mistakes, and which of them an image holds at a threshold.

/** By key: a code for the pictures, a name, and what it is, given the two IoUs. In the order of TIDE. */
const KINDS = {
  classification: {
    code: "C",
    name: "wrong class",
    meaning: (on) => `The box fits an object, IoU ${on} or more; its class is another.`,
  },
  localisation: {
    code: "L",
    name: "poor box",
    meaning: (on, off) => `The class is right, but the box fits the object badly: IoU ${off} to ${on}.`,
  },
  both: {
    code: "CL",
    name: "wrong class and poor box",
    meaning: (on, off) => `An object of another class, and the box fits it badly: IoU ${off} to ${on}.`,
  },
  duplicate: {
    code: "D",
    name: "duplicate",
    meaning: () => "A second box on an object that one with a higher score has found.",
  },
  background: {
    code: "B",
    name: "nothing there",
    meaning: (on, off) => `No object near: IoU below ${off} with all of them.`,
  },
  missed: {
    code: "M",
    name: "missed",
    meaning: () => "An object that nothing finds, not even with a wrong class or a poor box.",
  },
};

/** What else a box in a picture may be. */
const NO_MISTAKES = {
  correct: { code: "✓", name: "correct" },
  ignored: { code: "–", name: "not counted" },
};

const nameOfKind = (kind) => (KINDS[kind] || NO_MISTAKES[kind]).name;
const codeOfKind = (kind) => (KINDS[kind] || NO_MISTAKES[kind]).code;

/** A badge with the code of a kind; its name stands beside it or is read out. */
const badge = (kind) => element("span", { class: `code ${kind}`, "aria-hidden": "true" }, codeOfKind(kind));

/** Whether nothing with at least this score finds the object. Crowds need not be found. */
const isMissed = (truth, threshold) => !truth.crowd && (truth.found === null || truth.found < threshold);

/**
 * What can be seen of an image at a threshold, mistakes first: {kind, label, score, iou, box, truth}.
 * Objects have no score. Those that are found are of the kind "found", and crowds of the kind "crowd".
 */
function boxesAt(image, threshold) {
  const objects = image.truth.map((truth) => {
    const kind = truth.crowd ? "crowd" : isMissed(truth, threshold) ? "missed" : "found";
    return { kind, label: truth.label, score: null, iou: null, box: truth.box, truth: true };
  });
  const detections = image.detections
    .filter((detection) => detection.score >= threshold)
    .sort((a, b) => b.score - a.score)
    .map((detection) => ({ ...detection, truth: false }));
  const all = [...objects, ...detections];
  return [...all.filter((box) => box.kind in KINDS), ...all.filter((box) => !(box.kind in KINDS))];
}

/** How many mistakes of each kind are among the boxes: pairs of kind and number, without zeros. */
function countKinds(boxes) {
  return Object.keys(KINDS)
    .map((kind) => [kind, boxes.filter((box) => box.kind === kind).length])
    .filter(([, number]) => number > 0);
}
