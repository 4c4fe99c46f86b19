// Whether scores mean what they say, and how they are spread.

/** The reliability diagram of detections at IoU 0.50, where there is one, and the histogram of scores. */
function buildCalibration(calibration, scores) {
  byId("calibration-reliability").hidden = calibration === null;
  byId("calibration-scores").hidden = scores === null;
  if (calibration !== null) buildReliability(calibration);
  if (scores !== null) buildScores(scores);
}

function buildReliability({ error, bins }) {
  const filled = bins.filter((bin) => bin.count > 0);
  const lean = filled.reduce((sum, bin) => sum + bin.count * (bin.score - bin.precision), 0);
  const verdict = lean > 0 ? "higher than the detections deserve" : "lower than the detections deserve";
  byId("calibration-about").textContent =
    filled.length === 0
      ? "There are no detections to compare with their scores."
      : `Scores are off by ${fraction(error)} on average (expected calibration error, at IoU 0.50)` +
        (Math.abs(error) < 0.0005
          ? "."
          : `; on the whole they are ${verdict}. Each class's best threshold is in the table of classes.`);
  keepDrawn(byId("calibration-chart"), (width) => reliabilityChart(bins, filled, width));
  const range = (bin) => `${fraction(bin.low, 2)} to ${fraction(bin.high, 2)}`;
  byId("calibration-numbers").append(
    buildTable(
      [
        { head: "score", kind: "text", value: range },
        { head: "detections", kind: "count", value: (bin) => bin.count },
        { head: "mean score", kind: "fraction", value: (bin) => bin.score },
        { head: "precision", kind: "fraction", value: (bin) => bin.precision },
      ],
      bins,
    ),
  );
}

/** Points of precision over mean score with their distance from the ideal; below them the detections of each bin. */
function reliabilityChart(bins, filled, width) {
  const chart = axes({
    width,
    x: fractionAxis("score"),
    y: fractionAxis("share that is correct"),
    says: "Share of correct detections over their score; the numbers are in the table below",
  });
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  for (const { low, high, count: number } of bins) {
    const height = number === 0 ? 0 : Math.max(1, (70 * number) / most);
    const [x, end] = [chart.x(low) + 1, chart.x(high) - 1];
    const rect = shape("rect", { class: "column pale", x, width: end - x, y: chart.bottom - height, height });
    rect.append(shape("title", {}, counted(number, "detection", "detections")));
    if (number > 0) chart.svg.append(rect);
  }
  chart.svg.append(shape("line", { class: "ideal", x1: chart.x(0), y1: chart.y(0), x2: chart.x(1), y2: chart.y(1) }));
  const path = filled.map((bin) => `${chart.x(bin.score).toFixed(1)} ${chart.y(bin.precision).toFixed(1)}`);
  if (path.length > 1) chart.svg.append(shape("path", { class: "curve line-1", d: `M${path.join("L")}` }));
  for (const bin of filled) {
    const x = chart.x(bin.score);
    chart.svg.append(
      shape("line", { class: "gap", x1: x, x2: x, y1: chart.y(bin.score), y2: chart.y(bin.precision) }),
      shape("circle", { class: "column", cx: x, cy: chart.y(bin.precision), r: 4.5 }),
    );
  }
  return chart.svg;
}

function buildScores({ edges, counts }) {
  const bins = counts.map((number, index) => ({ low: edges[index], high: edges[index + 1], number }));
  keepDrawn(byId("scores-chart"), (width) => {
    const y = countAxis("detections (logarithmic)", Math.max(...counts));
    const says = "Number of detections over their score; the numbers are in the table below";
    const chart = axes({ width, x: fractionAxis("score"), y, left: 84, says });
    for (const { low, high, number } of bins) {
      const [x, top] = [chart.x(low) + 1, chart.y(onCountAxis(number))];
      chart.svg.append(
        shape(
          "rect",
          { class: "column", x, width: Math.max(1, chart.x(high) - x - 1), y: top, height: chart.bottom - top },
          shape("title", {}, counted(number, "detection", "detections")),
        ),
      );
    }
    return chart.svg;
  });
  byId("scores-numbers").append(
    buildTable(
      [
        { head: "score", kind: "text", value: (bin) => `${fraction(bin.low, 2)} to ${fraction(bin.high, 2)}` },
        { head: "detections", kind: "count", value: (bin) => bin.number },
      ],
      bins,
    ),
  );
}
