"use strict";
(() => {
  const all = JSON.parse(document.getElementById("wrong").textContent);
  const PAGE = 28;
  const make = (tag, text, className) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const percent = (share) => (share > 0 && share < 0.01 ? "<1 %" : Math.round(100 * share) + " %");
  const thumb = (photo, alt, map) => {
    const src = map ?? all.thumbs[photo];
    if (!src) return make("span", "no photo", "no-photo");
    const image = make("img");
    image.src = src;
    image.alt = alt;
    image.width = image.height = 96;
    return image;
  };

  // confusions: what a cell says, by pointer or arrow keys
  for (const box of document.querySelectorAll(".heat-box")) {
    const head = box.dataset.head;
    const cells = [...box.querySelectorAll("td[data-count]")];
    const names = [...box.querySelectorAll("tbody th")].map((name) => name.textContent);
    const says = box.querySelector(".cell-says");
    const tell = (cell) => {
      for (const other of cells) other.classList.toggle("on", other === cell);
      const { count, total } = cell.dataset;
      const truth = Number(cell.dataset.true), taken = Number(cell.dataset.taken);
      const share = Number(total) ? percent(count / total) : "0 %";
      const what = truth === taken ? "rightly so" : `taken for ${names[taken]}`;
      says.replaceChildren(make("p", `${names[truth]}, ${what}: ${count} of ${total} photos (${share})`));
      if (truth === taken || !Number(count)) return;
      const photos = head
        ? all.wrong[head].filter((one) => one.true === truth && one.taken === taken).slice(0, 3).map((one) => one.photo)
        : all.examples[truth + "," + taken] ?? [];
      if (!photos.length) return;
      const row = make("div", undefined, "row");
      for (const photo of photos) {
        const figure = make("figure");
        figure.append(thumb(photo, photo), make("figcaption", photo));
        row.append(figure);
      }
      says.append(row);
      if (head) says.append(make("p", "Enter or a click shows them among the mistakes.", "soft"));
    };
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    const show = (cell) => head && cell.dataset.true !== cell.dataset.taken && look(head, cell.dataset.true, cell.dataset.taken);
    cells.forEach((cell, number) => {
      cell.addEventListener("pointerenter", () => tell(cell));
      cell.addEventListener("focus", () => tell(cell));
      cell.addEventListener("click", () => { cell.focus(); show(cell); });
      cell.addEventListener("keydown", (event) => {
        if (event.key === "Enter") show(cell);
        const move = moves[event.key];
        if (!move) return;
        event.preventDefault();
        const row = Math.floor(number / names.length) + move[0], column = (number % names.length) + move[1];
        if (row < 0 || column < 0 || row >= names.length || column >= names.length) return;
        const next = cells[row * names.length + column];
        cell.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      });
    });
    const button = box.querySelector(".as-rates");
    button.addEventListener("click", () => {
      const rates = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", rates);
      button.textContent = rates ? "Show numbers of photos" : "Show shares of each true class";
      for (const cell of cells) {
        const { count, total } = cell.dataset;
        cell.textContent = rates ? (Number(total) ? percent(count / total) : "–") : count;
      }
    });
  }

  // the gallery
  const form = document.getElementById("filter");
  const field = form.elements;
  const place = document.getElementById("gallery");
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  const options = (select, pairs) => {
    const before = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
    if (pairs.some(([value]) => String(value) === before)) select.value = before;
  };
  const heads = Object.keys(all.wrong);
  options(field.head, heads.map((head) => [head, head]));
  field.head.value = all.first;
  if (Object.keys(all.cams).length) document.getElementById("map-tick").hidden = false;
  let shown = PAGE;

  function refill() {
    const classes = all.classes[field.head.value].map((name, number) => [number, name]);
    for (const name of ["true", "taken"]) options(field[name], [["", "any"], ...classes]);
    const folds = [...new Set(all.wrong[field.head.value].map((one) => one.fold))].sort((a, b) => a - b);
    options(field.fold, [["", "any"], ...folds.map((fold) => [fold, fold])]);
  }
  function card(one, head) {
    const classes = all.classes[head];
    const figure = make("figure");
    figure.tabIndex = -1;
    figure.dataset.photo = one.photo;
    const map = field.map.checked ? all.cams[head + "\n" + one.photo] : undefined;
    figure.append(thumb(one.photo, `${one.photo}: ${classes[one.true]}, taken for ${classes[one.taken]}`, map));
    const text = make("figcaption");
    text.append(make("span", `${classes[one.true]} → ${classes[one.taken]}`, "verdict"));
    const always = one.wrong_in === one.runs;
    const times = one.runs === 1 ? "only one run" : always ? `always wrong (${one.runs} runs)` : `wrong in ${one.wrong_in} of ${one.runs} runs`;
    text.append(make("span", times, "tag " + (always && one.runs > 1 ? "bad" : "soft")));
    const probs = make("div", undefined, "probs");
    classes.forEach((name, number) => {
      const line = make("div", undefined, number === one.true ? "is" : number === one.taken ? "taken" : "");
      const bar = make("i");
      bar.style.width = 100 * one.probs[number] + "%";
      line.append(make("span", name), bar, make("span", one.probs[number].toFixed(2)));
      probs.append(line);
    });
    text.append(probs, make("span", `${one.photo}, fold ${one.fold}`, "soft"));
    figure.append(text);
    return figure;
  }
  function draw() {
    const head = field.head.value;
    const wanted = all.wrong[head].filter((one) =>
      (field.true.value === "" || one.true === Number(field.true.value)) &&
      (field.taken.value === "" || one.taken === Number(field.taken.value)) &&
      (field.fold.value === "" || one.fold === Number(field.fold.value)) &&
      (field.kind.value === "" || (one.wrong_in === one.runs) === (field.kind.value === "always")) &&
      one.probs[one.taken] >= Number(field.least.value));
    if (field.order.value === "person") wanted.sort((a, b) => a.person.localeCompare(b.person) || a.photo.localeCompare(b.photo));
    const people = new Set(wanted.map((one) => one.person)).size;
    found.textContent = `${wanted.length} of ${all.wrong[head].length} mistakes, ${people} ${people === 1 ? "person" : "people"}`;
    const cards = wanted.slice(0, shown).map((one) => card(one, head));
    if (cards.length) cards[0].tabIndex = 0;
    place.replaceChildren(...cards);
    more.hidden = wanted.length <= shown;
  }
  function look(head, truth, taken) {
    field.fold.value = field.kind.value = "";
    field.least.value = 0;
    field.head.value = head;
    refill();
    field.true.value = truth;
    field.taken.value = taken;
    shown = PAGE;
    draw();
    document.getElementById("gallery-title").scrollIntoView();
    (place.firstElementChild ?? field.head).focus({ preventScroll: true });
  }
  form.addEventListener("input", (event) => {
    if (event.target === field.head) refill();
    shown = PAGE;
    draw();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    const head = field.head.value;
    setTimeout(() => { field.head.value = head; refill(); shown = PAGE; draw(); });
  });
  more.addEventListener("click", () => {
    const next = shown;
    shown += PAGE;
    draw();
    place.children[next]?.focus();
  });
  // arrows go from photo to photo; up and down by a row
  place.addEventListener("keydown", (event) => {
    const figures = [...place.children];
    const at = figures.indexOf(document.activeElement);
    const across = Math.max(1, figures.filter((one) => one.offsetTop === figures[0].offsetTop).length);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: figures.length - 1 - at }[event.key];
    if (at < 0 || step === undefined || !figures[at + step]) return;
    event.preventDefault();
    figures[at].tabIndex = -1;
    figures[at + step].tabIndex = 0;
    figures[at + step].focus();
  });
  refill();
  draw();
})();
