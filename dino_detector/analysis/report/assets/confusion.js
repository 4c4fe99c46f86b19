// Confusion of classes.

const SHADES = 6;
const RANKED = 12;
const ROOMY = 15;

/** 2345 as "2k", for narrow cells. */
const brief = (number) => (number < 1000 ? String(number) : `${Math.floor(number / 1000)}k`);

/** The matrix, and lists of the most frequent confusions. */
function buildConfusion(confusion, classes) {
  const names = [...classes.map((row) => row.name), WORDS.background];
  buildRankings(confusion.counts, names);
  buildMatrix(confusion.counts, names);
}

function buildRankings(counts, names) {
  const background = names.length - 1;
  const cells = counts.flatMap((row, truth) => row.map((number, predicted) => ({ truth, predicted, number })));
  const wrong = cells
    .filter((cell) => cell.truth !== cell.predicted && cell.number > 0)
    .sort((a, b) => b.number - a.number);
  const share = ({ truth, number }) => ` (${percent(number / totalOf(counts[truth]))})`;
  const rankings = [
    [
      "Taken for another class",
      (cell) => cell.truth !== background && cell.predicted !== background,
      (cell) => [nameElement(names[cell.truth]), " taken for ", nameElement(names[cell.predicted]), share(cell)],
    ],
    [
      "Most often missed",
      (cell) => cell.predicted === background,
      (cell) => [nameElement(names[cell.truth]), share(cell)],
    ],
    [
      "Most often seen where nothing is",
      (cell) => cell.truth === background,
      (cell) => [nameElement(names[cell.predicted])],
    ],
  ];
  for (const [title, belongs, text] of rankings) {
    const items = wrong.filter(belongs).slice(0, RANKED);
    const list = element(
      "ol",
      { class: "ranking" },
      ...items.map((cell) => element("li", {}, element("b", {}, `${count(cell.number)} `), ...text(cell))),
    );
    byId("confusion-lists").append(
      element("div", {}, element("h3", {}, title), items.length ? list : element("p", { class: "soft" }, "none")),
    );
  }
}

const totalOf = (row) => row.reduce((sum, number) => sum + number, 0);

/** The matrix as a table with one tab stop. The arrow keys move the focus, and a text above describes the cell. */
function buildMatrix(counts, names) {
  const head = element(
    "tr",
    {},
    element("th", {}, `${WORDS.axes.truth} ↓ ${WORDS.axes.predicted} →`),
    ...names.map((name) => element("th", { scope: "col", title: name }, element("span", {}, nameElement(name)))),
  );
  const rows = counts.map((row, truth) => {
    const total = totalOf(row);
    const cells = row.map((number, predicted) => {
      const shade = number === 0 ? 0 : Math.max(1, Math.ceil(SHADES * Math.sqrt(number / total)));
      const shown = number === 0 ? "" : names.length > ROOMY ? brief(number) : count(number);
      return element(
        "td",
        { class: shade ? `${truth === predicted ? "hit" : "slip"}-${shade}` : null, tabindex: -1 },
        shown,
      );
    });
    return element("tr", {}, element("th", { scope: "row", title: names[truth] }, nameElement(names[truth])), ...cells);
  });
  const table = element(
    "table",
    { "aria-labelledby": "confusion-matrix-title" },
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
  const box = byId("confusion-matrix");
  box.classList.toggle("roomy", names.length <= ROOMY);
  box.append(table);

  const places = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const cellAt = (truth, predicted) => rows[truth] && rows[truth].cells[predicted + 1];
  const placeOf = (cell) => [cell.parentNode.rowIndex - 1, cell.cellIndex - 1];
  const read = ([truth, predicted]) => {
    byId("confusion-reading").textContent = cellInWords(counts, names, truth, predicted);
  };
  let current = cellAt(0, 0);
  current.tabIndex = 0;
  table.addEventListener("focusin", ({ target }) => {
    current.tabIndex = -1;
    current = target;
    current.tabIndex = 0;
    read(placeOf(current));
  });
  table.addEventListener("pointerover", ({ target }) => {
    const cell = target.closest("td");
    if (cell) read(placeOf(cell));
  });
  table.addEventListener("keydown", (event) => {
    if (!(event.key in places)) return;
    const [down, right] = places[event.key];
    const [truth, predicted] = placeOf(current);
    const next = predicted + right >= 0 && cellAt(truth + down, predicted + right);
    event.preventDefault();
    if (next) next.focus();
  });
  byId("confusion-reading").textContent = "Point at a cell, or move to it, to read it here.";
}

/** "12 of 350 cat (3 %) are taken for dog." */
function cellInWords(counts, names, truth, predicted) {
  const background = names.length - 1;
  const number = counts[truth][predicted];
  const [from, to] = [isolated(names[truth]), isolated(names[predicted])];
  if (truth === background && predicted === background) return "Nothing, seen as nothing: not counted.";
  if (truth === background) return `${counted(number, "detection", "detections")} of ${to} where nothing is.`;
  const total = totalOf(counts[truth]);
  const share = total === 0 ? "" : ` (${percent(number / total)})`;
  const of = `${count(number)} of ${counted(total, "object", "objects")} of ${from}${share}`;
  if (predicted === background) return `${of}: missed.`;
  return truth === predicted ? `${of}: right.` : `${of}: taken for ${to}.`;
}
