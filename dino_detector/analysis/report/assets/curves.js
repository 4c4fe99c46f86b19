// Precision over recall: a curve for each IoU.

const DASHES = ["", "9 4", "2 3", "12 3 2 3", "5 2", "16 5", "6 3 2 3 2 3", "3 6", "14 3 5 3", "1 4"];
const FIRST_SHOWN = [0.5, 0.75, 0.9];
const ROOM_FOR_LABELS = 96;

/** The chart, its controls, the reading at a recall, and the table of numbers. */
function buildCurves(curves, classes) {
  const select = byId("curves-class");
  const slider = byId("curves-recall");
  const measured = classes.map((row, label) => [label, row.name]).filter(([label]) => curves.precision[label] !== null);
  addOptions(select, [["mean", "mean of all classes"], ...measured]);
  const boxes = curves.ious.map((iou) => {
    const input = element("input", { type: "checkbox", value: iou });
    input.checked = FIRST_SHOWN.some((first) => Math.abs(first - iou) < 1e-6);
    byId("curves-ious").append(element("label", {}, input, iou.toFixed(2)));
    return input;
  });

  const shown = () => {
    const ofClass = select.value === "mean" ? curves.mean : curves.precision[Number(select.value)];
    return curves.ious
      .map((iou, index) => ({ iou, index, points: ofClass[index] }))
      .filter(({ index }) => boxes[index].checked);
  };
  const name = () => select.selectedOptions[0].textContent;
  const redraw = keepDrawn(byId("curves-chart"), (width) => curveChart(shown(), Number(slider.value), width, name()));
  const read = () => {
    const at = Number(slider.value);
    byId("curves-recall-value").textContent = fraction(at / 100, 2);
    const readings = shown().map(({ iou, points }) => `${fraction(points[at])} at IoU ${iou.toFixed(2)}`);
    byId("curves-reading").textContent = readings.length
      ? `${isolated(name())}, recall ${fraction(at / 100, 2)}: precision ${readings.join(", ")}.`
      : "Choose an IoU to see its curve.";
    redraw();
  };
  const change = () => {
    byId("curves-numbers").replaceChildren(curveNumbers(shown()));
    read();
  };
  slider.addEventListener("input", read);
  byId("curves-controls").addEventListener("change", change);
  byId("curves-controls").addEventListener("submit", (event) => event.preventDefault());
  change();
}

/** The highest recall that is reached, in hundredths. */
const endOf = (points) =>
  Math.max(
    0,
    points.findLastIndex((value) => value > 0),
  );

/** One of five colours; IoUs that share one lie far apart and have other dashes. */
const colourOfCurve = (index) => 1 + ((index + Math.floor(index / 5)) % 5);

/** COCO's AP at one IoU: the mean of the precision over the recalls. */
const averageOf = (points) => points.reduce((sum, value) => sum + value, 0) / points.length;

function curveChart(shown, at, width, name) {
  const right = Math.min(ROOM_FOR_LABELS, width / 4);
  const averages = shown.map(({ iou, points }) => `AP ${fraction(averageOf(points))} at IoU ${iou.toFixed(2)}`);
  const says = `Precision over recall of ${isolated(name)}: ${averages.join(", ")}`;
  const chart = axes({ width, height: 360, x: fractionAxis(WORDS.axes.recall), y: fractionAxis(WORDS.axes.precision), right, says });
  for (const { index, points } of shown) {
    const path = points
      .slice(0, endOf(points) + 2)
      .map((value, place) => `${chart.x(place / 100).toFixed(1)} ${chart.y(value).toFixed(1)}`);
    chart.svg.append(
      shape("path", {
        class: `curve line-${colourOfCurve(index)}`,
        d: `M${path.join("L")}`,
        "stroke-dasharray": DASHES[index % 10],
      }),
    );
  }
  const x = chart.x(at / 100);
  chart.svg.append(shape("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: chart.bottom }));
  for (const { x, y, text } of curveLabels(shown, chart))
    chart.svg.append(shape("text", { class: "label", x, y }, text));
  return chart.svg;
}

/** A label at the point where each curve falls below half of its height, moved up if two would touch. */
function curveLabels(shown, chart) {
  const labels = shown.map(({ iou, points }) => {
    const half = Math.max(...points) / 2;
    const place = points.findLastIndex((value) => value >= half);
    const y = Math.min(chart.y(points[place]) + 4, chart.bottom - 4);
    return { x: chart.x(place / 100) + 7, y, text: `IoU ${iou.toFixed(2)}` };
  });
  labels.sort((a, b) => b.y - a.y);
  labels.forEach((label, index) => {
    for (const below of labels.slice(0, index)) {
      if (Math.abs(label.x - below.x) < 64 && below.y - label.y < 15) label.y = below.y - 15;
    }
  });
  return labels;
}

/** Precision at every tenth of recall, a column for each IoU, and the mean over all recalls below. */
function curveNumbers(shown) {
  const recalls = Array.from({ length: 11 }, (_, tenth) => ({
    text: fraction(tenth / 10, 1),
    of: (points) => points[10 * tenth],
  }));
  const rows = [...recalls, { text: "AP", of: averageOf }];
  const columns = [
    { head: WORDS.axes.recall, kind: "text", value: (row) => row.text },
    ...shown.map(({ iou, points }) => ({
      head: `IoU ${iou.toFixed(2)}`,
      kind: "fraction",
      value: (row) => row.of(points),
    })),
  ];
  return buildTable(columns, rows);
}
