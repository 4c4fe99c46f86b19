// Comparison with a baseline.

/** The twelve numbers, the classes, and the images that became better or worse. */
function buildComparison(comparison, gallery) {
  const metrics = Object.entries(comparison.metrics).map(([name, { baseline, value }]) => ({
    name,
    baseline,
    value,
    change: baseline === null || value === null ? null : value - baseline,
  }));
  byId("comparison-metrics").append(
    buildTable(
      [
        { head: "metric", kind: "text", value: (row) => row.name },
        { head: "baseline", kind: "fraction", value: (row) => row.baseline },
        { head: "now", kind: "fraction", value: (row) => row.value },
        changeColumn(metrics),
      ],
      metrics,
    ),
  );
  const table = buildTable(
    [
      { head: "class", kind: "text", value: (row) => row.name, shown: (row) => nameElement(row.name) },
      { head: "boxes", kind: "count", value: (row) => row.boxes },
      { head: "baseline", kind: "fraction", value: (row) => row.baseline },
      { head: "AP", kind: "fraction", value: (row) => row.AP },
      changeColumn(comparison.classes),
    ],
    comparison.classes,
  );
  makeSortable(table);
  table.tHead.rows[0].lastChild.firstChild.click();
  byId("comparison-classes").append(table);
  buildFlipped(comparison.flipped, gallery);
}

/** A column of `row.change` with a bar, to the left for a loss and to the right for a gain. */
function changeColumn(rows) {
  const largest = Math.max(0.001, ...rows.map((row) => Math.abs(row.change ?? 0)));
  return {
    head: "change",
    kind: "fraction",
    value: (row) => row.change,
    shown: (row) => signed(row.change),
    bar: ({ change }) => {
      const share = (50 * Math.abs(change)) / largest;
      return shape(
        "svg",
        { class: "change", "aria-hidden": "true" },
        shape("rect", {
          class: change < 0 ? "loss" : "gain",
          x: `${change < 0 ? 50 - share : 50}%`,
          width: `${share}%`,
          y: "15%",
          height: "70%",
        }),
        shape("line", { class: "axis", x1: "50%", x2: "50%", y1: 0, y2: "100%" }),
      );
    },
  };
}

/** Lists of the images that became better and worse. The name of an image in the gallery is a button. */
function buildFlipped(flipped, gallery) {
  if (flipped === null) return;
  const sides = [
    ["Images that became better", flipped.gained, flipped.total_gained],
    ["Images that became worse", flipped.lost, flipped.total_lost],
  ];
  for (const [title, images, total] of sides) {
    const items = images.map((image) => {
      const name =
        gallery && gallery.has(image.id)
          ? element("button", { type: "button", class: "plain" }, nameElement(image.file_name))
          : nameElement(image.file_name);
      if (name.tagName === "BUTTON") name.addEventListener("click", () => gallery.open(image.id));
      return element(
        "li",
        {},
        name,
        `: ${count(image.baseline_mistakes)} → ${counted(image.mistakes, "mistake", "mistakes")}`,
      );
    });
    byId("comparison-flipped").append(
      element(
        "div",
        {},
        element("h3", {}, title),
        element(
          "p",
          { class: "soft" },
          (images.length < total ? `${count(images.length)} of ` : "") + counted(total, "image", "images"),
        ),
        element(
          "div",
          { class: "scroll short", role: "region", tabindex: 0, "aria-label": title },
          element("ul", { class: "ranking" }, ...items),
        ),
      ),
    );
  }
}

