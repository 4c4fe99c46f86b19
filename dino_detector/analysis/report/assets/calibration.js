// Calibration and histogram of scores.

/** The reliability diagram at IoU 0.50. */
function buildReliability({ bins }) {
  const filled = bins.filter((bin) => bin.count > 0);
  keepDrawn(byId("calibration-chart"), (width) => reliabilityChart(bins, filled, width));
  byId("calibration-numbers").append(
    buildTable(
      [
        { head: WORDS.axes.score, kind: "text", value: rangeOf },
        { head: WORDS.axes.detections, kind: "count", value: (bin) => bin.count },
        { head: "mean score", kind: "fraction", value: (bin) => bin.score },
        { head: WORDS.axes.precision, kind: "fraction", value: (bin) => bin.precision },
      ],
      bins,
    ),
  );
}

const rangeOf = (bin) => `${fraction(bin.low, 2)} to ${fraction(bin.high, 2)}`;

/** Precision over mean score as points, their distance from the diagonal, and columns of the detections of each bin. */
function reliabilityChart(bins, filled, width) {
  const chart = axes({
    width,
    x: fractionAxis(WORDS.axes.score),
    y: fractionAxis(WORDS.axes.precision),
    says: `${WORDS.axes.precision} over ${WORDS.axes.score}; the numbers are in the table below`,
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

/** The histogram of scores. */
function buildScores({ edges, counts }) {
  const bins = counts.map((number, index) => ({ low: edges[index], high: edges[index + 1], number }));
  keepDrawn(byId("scores-chart"), (width) => {
    const y = countAxis(WORDS.axes.detections_log, Math.max(...counts));
    const says = "Number of detections over their score; the numbers are in the table below";
    const chart = axes({ width, x: fractionAxis(WORDS.axes.score), y, left: 84, says });
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
        { head: WORDS.axes.score, kind: "text", value: rangeOf },
        { head: WORDS.axes.detections, kind: "count", value: (bin) => bin.number },
      ],
      bins,
    ),
  );
}
