// This run beside a baseline.

/** What changed: AP in words, the twelve numbers, the classes, and the images that went over to the other side. */
function buildComparison(comparison, gallery) {
  byId("comparison-verdict").textContent = changeInWords(comparison);
  byId("comparison-runs").append(
    nameElement(comparison.title),
    " against the baseline ",
    nameElement(comparison.baseline_title),
    ".",
  );
  const number = (key) => ({
    head: { baseline: "baseline", value: "now" }[key],
    kind: "fraction",
    value: (row) => row[key],
  });
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
        number("baseline"),
        number("value"),
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

/** "AP +0.031, 95 % interval −0.002 to +0.064: may be chance." */
function changeInWords({ metrics, bootstrap }) {
  const { baseline, value } = metrics.AP;
  if (bootstrap === null) {
    if (baseline === null || value === null) return "AP can't be compared: one of the runs has none.";
    const change = `AP ${signed(value - baseline)}, from ${fraction(baseline)} to ${fraction(value)}.`;
    return `${change} Whether this is chance can't be told from metrics alone.`;
  }
  const { difference, low, high, level, resamples } = bootstrap;
  const verdict = low > 0 ? "better beyond chance" : high < 0 ? "worse beyond chance" : "may be chance";
  return (
    `AP ${signed(difference)}, ${Math.round(100 * level)} % interval ${signed(low)} to ${signed(high)}: ${verdict} ` +
    `(${count(resamples)} resamples of the images).`
  );
}

/** A column of `row.change` with a bar to the left for what fell and to the right for what rose. */
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

/** Lists of the images that gained and lost; a name is a button where the gallery has the image. */
function buildFlipped(flipped, gallery) {
  if (flipped === null) return;
  const sides = [
    ["Images that became better", flipped.gained, flipped.total_gained],
    ["Images that became worse", flipped.lost, flipped.total_lost],
  ];
  byId("comparison-flipped-about").textContent =
    "An image became better where it had mistakes and has none now, and worse the other way round; each run at the " +
    `score that gives its best F1, ${fraction(flipped.baseline_threshold, 2)} before and ` +
    `${fraction(flipped.threshold, 2)} now.`;
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
        flippedList(title, items),
      ),
    );
  }
}

/** The images in a box of their own, which scrolls, since there may be many. */
function flippedList(title, items) {
  const list = element("ul", { class: "ranking" }, ...items);
  return element("div", { class: "scroll short", role: "region", tabindex: 0, "aria-label": title }, list);
}
