// What each kind of mistake costs.

/** Bars by falling cost, and a table of what each class loses to each kind. */
function buildErrors(errors, classes) {
  const [on, off] = [errors.IoU_foreground, errors.IoU_background].map(String);
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
        element("span", { class: "meaning" }, KINDS[key].meaning(on, off)),
      ),
    ),
  );
  const special = Object.fromEntries(errors.special.map(({ key, cost }) => [key, fraction(cost)]));
  byId("errors-special").textContent =
    errors.AP50 === null
      ? "There is no ground truth, so nothing can be said to cost anything."
      : `AP50 is ${fraction(errors.AP50)}. Without any false detection it would rise by ${special.false_positives}, ` +
        `with every object found by ${special.false_negatives}.`;
  buildCostsByClass(errors.per_class, classes);
}

function buildCostsByClass(perClass, classes) {
  const rows = perClass.filter(({ costs }) => costs !== null && Object.values(costs).some((cost) => cost !== null));
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
