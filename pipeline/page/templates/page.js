"use strict";
// the list of sections
for (const heading of document.querySelectorAll("main h2[id]")) {
  const link = document.createElement("a");
  link.href = "#" + heading.id;
  link.textContent = heading.textContent;
  const item = document.createElement("li");
  item.append(link);
  document.getElementById("contents").append(item);
}
document.querySelector("nav").hidden = document.querySelectorAll("#contents li").length < 2;
// columns sort by a click or Enter on their names; cells without a number come last
function keyOf(cell, isNumber) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  return isNumber ? (text === "" || Number.isNaN(Number(text)) ? null : Number(text)) : text;
}
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const isNumber = head.classList.contains("number");
    const first = isNumber ? "descending" : "ascending";
    const other = isNumber ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of head.parentElement.children) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const body = head.closest("table").tBodies[0];
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row) => [keyOf(row.cells[head.cellIndex], isNumber), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (isNumber ? a - b : a.localeCompare(b));
    });
    body.append(...rows.map(([, row]) => row));
  });
}
