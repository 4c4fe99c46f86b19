// The AP50 that each kind of mistake costs.

/** Bars by falling cost, and a table of costs by class and kind. */
function buildErrors(errors, classes) {
  const falling = [...errors.types].sort((a, b) => b.cost - a.cost);
  const longest = Math.max(falling[0].cost, 0.001);
  byId("errors-kinds").append(
    ...falling.map(({ key, cost, count: number }) =>
      element(
        "li",
        {},
        badge(key),
        element("b", {}, nameOfKind(key)),
        bar(cost / longest),
        element("span", { class: "cost" }, signed(cost)),
        element(
          "span",
          { class: "count" },
          counted(number, key === "missed" ? "object" : "detection", key === "missed" ? "objects" : "detections"),
        ),
        element("span", { class: "meaning" }, KINDS[key].meaning),
      ),
    ),
  );
  buildCostsByClass(errors.per_class, classes);
}

function buildCostsByClass(perClass, classes) {
  const rows = perClass.filter(({ costs }) => Object.values(costs).some((cost) => cost !== null));
  const columns = [
    {
      head: "class",
      kind: "text",
      value: (row) => classes[row.label].name,
      shown: (row) => nameElement(classes[row.label].name),
    },
    ...Object.keys(KINDS).map((kind) => ({
      head: nameOfKind(kind),
      kind: "fraction",
      value: (row) => row.costs[kind],
    })),
  ];
  const table = buildTable(columns, rows);
  makeSortable(table);
  byId("errors-classes").append(table);
  byId("errors-details").hidden = rows.length === 0;
}
