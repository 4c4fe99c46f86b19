// Tables: built from rows, sorted by their heads, filtered by name.

/**
 * A table element from columns {head, value(row), kind, shown(row), bar(row)}. `kind` is "text", "fraction" or "count";
 * `shown` replaces the text of the value, and `bar` returns an element before it. The first column is the row head.
 */
function buildTable(columns, rows) {
  const heads = columns.map((column) => element("th", { scope: "col", "data-kind": column.kind }, column.head));
  const body = rows.map((row) =>
    element("tr", {}, ...columns.map((column, index) => cellOf(column, row, index === 0))),
  );
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...body));
}

function cellOf(column, row, isFirst) {
  const value = column.value(row);
  const plain = { text: String, count, fraction }[column.kind];
  const shown = column.shown ? column.shown(row) : value === null ? "–" : plain(value);
  const before = column.bar && value !== null ? column.bar(row) : null;
  if (isFirst) return element("th", { scope: "row" }, before, shown);
  const kind = column.kind === "text" ? "text" : value === null ? "none" : null;
  return element("td", { class: kind, "data-value": value === null ? "" : value }, before, shown);
}

/** Makes every column head a button that sorts by the column; a second press reverses the order. */
function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = element("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.kind === "text" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], index, head.dataset.kind, order);
    });
  });
}

/** Sorts rows by a column, stably; rows without a value come last in both orders. */
function sortRows(body, index, kind, order) {
  const direction = order === "ascending" ? 1 : -1;
  const valued = [...body.rows].map((row) => {
    const cell = row.cells[index];
    const text = "value" in cell.dataset ? cell.dataset.value : cell.textContent;
    return { row, value: kind === "text" ? text : text === "" ? null : Number(text) };
  });
  valued.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
    return direction * (kind === "text" ? a.value.localeCompare(b.value) : a.value - b.value);
  });
  body.append(...valued.map(({ row }) => row));
}

/** The class table of the page: its heads sort, and a field filters its rows by name. */
function buildClassTable() {
  const table = byId("class-table");
  const rows = [...table.tBodies[0].rows];
  const field = byId("class-filter");
  makeSortable(table);
  const filter = () => {
    const wanted = field.value.trim().toLocaleLowerCase();
    const fits = (row) => row.cells[0].textContent.toLocaleLowerCase().includes(wanted);
    rows.forEach((row) => (row.hidden = !fits(row)));
    const shown = rows.filter((row) => !row.hidden).length;
    byId("class-count").textContent = wanted ? `${count(shown)} of ${counted(rows.length, "class", "classes")}` : "";
  };
  field.addEventListener("input", filter);
  byId("class-controls").addEventListener("submit", (event) => event.preventDefault());
  byId("class-controls").hidden = rows.length < 2;
}
