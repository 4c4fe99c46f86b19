// SVG charts, drawn at the width of their box, so that text has the same size on every screen.

const MARGIN = { top: 16, right: 16, bottom: 42, left: 52 };
const CHART_HEIGHT = 320;

/** Draws `draw(width)` into a box, again when its width changes; returns a function that redraws. */
function keepDrawn(box, draw) {
  let width = 0;
  const redraw = () => {
    if (width > 0) box.replaceChildren(draw(width));
  };
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width) return;
    width = now;
    redraw();
  }).observe(box);
  return redraw;
}

/**
 * The axes of a chart and its scales: {svg, x(value), y(value), bottom}.
 *
 * `x` and `y` are {low, high, ticks, title, text(tick)}. `left` is the room for the tick labels of `y`, `right` the room
 * for labels of curves, and `says` the description for screen readers.
 */
function axes({ width, height = CHART_HEIGHT, x, y, left = MARGIN.left, right = MARGIN.right, says }) {
  const bottom = height - MARGIN.bottom;
  const across = (value) => left + ((value - x.low) / (x.high - x.low)) * (width - left - right);
  const up = (value) => bottom - ((value - y.low) / (y.high - y.low)) * (bottom - MARGIN.top);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": says });
  for (const tick of y.ticks) {
    svg.append(
      shape("line", { class: "grid", x1: across(x.low), x2: across(x.high), y1: up(tick), y2: up(tick) }),
      shape("text", { x: left - 8, y: up(tick) + 4, "text-anchor": "end" }, y.text(tick)),
    );
  }
  for (const tick of x.ticks) {
    svg.append(shape("text", { x: across(tick), y: bottom + 18, "text-anchor": "middle" }, x.text(tick)));
  }
  const middle = (MARGIN.top + bottom) / 2;
  svg.append(
    shape("line", { class: "axis", x1: across(x.low), x2: across(x.high), y1: bottom, y2: bottom }),
    shape("text", { x: across((x.low + x.high) / 2), y: height - 4, "text-anchor": "middle" }, x.title),
    shape("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, y.title),
  );
  return { svg, x: across, y: up, bottom };
}

/** An axis of fractions from 0 to 1. */
const fractionAxis = (title) => ({
  low: 0,
  high: 1,
  ticks: [0, 0.2, 0.4, 0.6, 0.8, 1],
  title,
  text: (value) => value.toFixed(1),
});

/** A logarithmic axis of counts: 0 lies at the bottom, and 1 above it. */
function countAxis(title, highest) {
  const top = Math.max(1, Math.ceil(Math.log10(Math.max(1, highest))));
  const ticks = Array.from({ length: top + 1 }, (_, power) => power);
  return { low: -0.3, high: top, ticks, title, text: (power) => count(10 ** power) };
}

/** The place of a count on `countAxis`. */
const onCountAxis = (number) => (number > 0 ? Math.log10(number) : -0.3);
