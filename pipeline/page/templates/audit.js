"use strict";
const list = document.getElementById("cases");
const cases = [...list.querySelectorAll(".case")];
const savedTo = list.dataset.saved;
const past = []; // [case, word, value] before each change
const unsaved = new Set(); // of a review: what the server has not confirmed
let current = null;
let isFresh = true; // of a page that is only a file: nothing that is not downloaded
let turn = 0;

const field = (one) => one.querySelector("select, input");
const shown = () => cases.filter((one) => !one.hidden);

function paint(one) {
  for (const button of one.querySelectorAll("button[data-word]")) {
    button.setAttribute("aria-pressed", String(button.dataset.word === one.dataset.word));
  }
  if (field(one) && one.dataset.word) field(one).value = one.dataset.value;
  const decided = cases.filter((each) => each.dataset.word);
  const count = (word) => decided.filter((each) => each.dataset.word === word).length;
  const words = ["wrong", "right", "unsure"].map((word) => count(word) + " " + word).join(", ");
  document.getElementById("progress").textContent = decided.length + " of " + cases.length + " decided: " + words;
  document.getElementById("undo").disabled = past.length === 0;
  const download = document.getElementById("download");
  if (download) download.disabled = decided.length === 0;
}

function put(one, word, value) {
  one.dataset.word = word;
  one.dataset.value = value;
  isFresh = false;
  paint(one);
  if (savedTo) send(one);
}

function decide(one, word) {
  const input = field(one);
  if (word === "wrong" && input && !input.reportValidity()) return false;
  if (word === "wrong" && input && input.value === "") { input.focus(); return false; }
  const value = input ? input.value : one.dataset.value;
  if (one.dataset.word === word && one.dataset.value === value) return true;
  past.push([one, one.dataset.word, one.dataset.value]);
  put(one, word, value);
  return true;
}

function undo() {
  const [one, word, value] = past.pop();
  put(one, word, value);
  go(one);
}

function go(one) {
  if (!one) return;
  if (current) current.classList.remove("current");
  current = one;
  one.classList.add("current");
  one.focus({ preventScroll: true });
  one.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const seen = shown();
  const at = seen.indexOf(current);
  go(seen[at < 0 ? 0 : Math.min(seen.length - 1, Math.max(0, at + by))]);
}

// a review: every decision at once; the turn tells the server which of two came later
async function send(one) {
  turn = Math.max(turn + 1, Date.now());
  const mine = turn;
  one.dataset.turn = mine;
  unsaved.add(one);
  tell();
  const { number, word, value } = one.dataset;
  try {
    const answer = await fetch("decide", {
      method: "POST", keepalive: true, headers: { "content-type": "application/json" },
      body: JSON.stringify({ number: Number(number), word, value, turn: mine }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    if (Number(one.dataset.turn) === mine) unsaved.delete(one);
    tell();
  } catch (error) {
    tell(error instanceof TypeError ? "is pipe review still running?" : error.message);
  }
}

function tell(why) {
  const state = document.getElementById("state");
  state.className = why ? "bad" : unsaved.size ? "soft" : "good";
  state.textContent = why ? unsaved.size + " not saved: " + why : unsaved.size ? "saving ..." : "all saved";
  if (why) {
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "try again";
    again.addEventListener("click", () => [...unsaved].forEach(send));
    state.append(" ", again);
  }
}

// a page that is only a file: decisions as a table of label fixes, behind those that the runs were trained with
function table() {
  const names = ["path", "column", "value", "decision", "given"];
  const rows = JSON.parse(list.dataset.earlier);
  for (const one of cases.filter((each) => each.dataset.word)) {
    const { path, column, value, word, given } = one.dataset;
    rows.push({ path, column, value, decision: word, given });
  }
  for (const row of rows) for (const name of Object.keys(row)) if (!names.includes(name)) names.push(name);
  const cell = (text) => (/[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  return [names, ...rows.map((row) => names.map((name) => row[name] ?? ""))]
    .map((cells) => cells.map(cell).join(",") + "\n").join("");
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = "fixes.csv";
  link.click();
  isFresh = true;
}

for (const one of cases) {
  paint(one);
  one.addEventListener("focusin", () => { if (current !== one) { current?.classList.remove("current"); current = one; one.classList.add("current"); } });
  for (const button of one.querySelectorAll("button[data-word]")) {
    button.addEventListener("click", () => decide(one, button.dataset.word));
  }
  field(one)?.addEventListener("change", () => {
    if (one.dataset.word === "wrong" && field(one).value && field(one).checkValidity()) {
      past.push([one, one.dataset.word, one.dataset.value]);
      put(one, "wrong", field(one).value);
    }
  });
}
isFresh = true;
go(shown().find((one) => !one.dataset.word) ?? shown()[0]); // the first key decides on what is marked
document.getElementById("undo")?.addEventListener("click", undo);
document.getElementById("download")?.addEventListener("click", download);
document.getElementById("filter")?.addEventListener("change", (event) => {
  for (const one of cases) one.hidden = Boolean(event.target.value) && one.dataset.head !== event.target.value;
  go(shown()[0]);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  const words = { y: "wrong", n: "right", u: "unsure" };
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "z" && past.length) undo();
  else if (words[event.key] && decide(current, words[event.key])) step(1);
  else return;
  event.preventDefault();
});
addEventListener("beforeunload", (event) => { if (savedTo ? unsaved.size : !isFresh) event.preventDefault(); });
