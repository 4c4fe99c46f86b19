// Builds the sections that the payload has numbers for, and the list of sections.

const payload = JSON.parse(byId("payload").textContent);
const reveal = (id) => (byId(id).hidden = false);
let gallery = null;

buildClassTable();
if (payload.errors !== null) {
  reveal("errors");
  buildErrors(payload.errors, payload.classes);
}
if (payload.gallery !== null) {
  reveal("gallery");
  gallery = buildGallery(payload.gallery, payload.classes);
}
if (payload.curves !== null) {
  reveal("curves");
  buildCurves(payload.curves, payload.classes);
}
if (payload.confusion !== null) {
  reveal("confusion");
  buildConfusion(payload.confusion, payload.classes);
}
if (payload.calibration !== null || payload.scores !== null) {
  reveal("calibration");
  buildCalibration(payload.calibration, payload.scores);
}
if (payload.comparison !== null) {
  reveal("comparison");
  buildComparison(payload.comparison, gallery);
}

const sections = [...document.querySelectorAll("main > section:not([hidden])")];
byId("sections").append(
  ...sections.map((section) =>
    element("li", {}, element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)),
  ),
);
