// Builds the sections whose numbers the payload has, and the list of sections.

const payload = JSON.parse(byId("payload").textContent);
let gallery = null;

buildClassTable();
const builders = {
  errors: () => buildErrors(payload.errors, payload.classes),
  gallery: () => (gallery = buildGallery(payload.gallery, payload.classes)),
  curves: () => buildCurves(payload.curves, payload.classes),
  confusion: () => buildConfusion(payload.confusion, payload.classes),
  calibration: () => (buildReliability(payload.calibration), buildScores(payload.scores)),
  comparison: () => buildComparison(payload.comparison, gallery),
};
for (const [id, build] of Object.entries(builders)) {
  if (payload[id] === null) continue;
  byId(id).hidden = false;
  build();
}

const sections = [...document.querySelectorAll("main > section:not([hidden])")];
byId("sections").append(
  ...sections.map((section) =>
    element("li", {}, element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)),
  ),
);
