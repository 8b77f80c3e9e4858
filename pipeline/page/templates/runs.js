"use strict";
{
  // columns in which all runs are equal hide; a row shows when it holds every word that was typed
  const box = document.getElementById("runs");
  const rows = [...box.querySelectorAll("tbody tr")];
  const words = document.getElementById("words");
  const all = document.getElementById("all");
  const shown = document.getElementById("shown");
  const same = new Set(JSON.parse(box.dataset.same));
  const update = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${rows.length} runs`;
    for (const row of box.querySelectorAll("tr")) {
      for (const cell of row.cells) cell.hidden = !all.checked && same.has(cell.cellIndex);
    }
  };
  words.addEventListener("input", update);
  all.addEventListener("change", update);
  update();
}
