"use strict";
// Moves sliders through slices, sorts and filters tables. Without it the page shows all the same, one slice each.

for (const part of document.querySelectorAll(".scripted")) part.hidden = false;

for (const example of document.querySelectorAll("[data-places]")) {
  const places = example.dataset.places.split(" ").map((place) => place.split(","));
  const slider = example.querySelector("input");
  const said = example.querySelector("output");
  const numbers = example.dataset.slices.split(" ");
  const show = () => {
    const [left, top] = places[slider.value];
    for (const image of example.querySelectorAll("image")) {
      image.setAttribute("x", -left);
      image.setAttribute("y", -top);
    }
    said.textContent = `slice ${numbers[slider.value]} of ${example.dataset.depth}`;
    slider.setAttribute("aria-valuetext", said.textContent);
  };
  slider.addEventListener("input", show);
  show(); // a browser may remember where the slider was
}

const words = new Intl.Collator("en", { numeric: true });

function valueOf(cell) {
  const text = cell.textContent.trim();
  if (text === "" || text === "–") return null;
  const number = Number(text.replaceAll(",", "").replace("∞", "Infinity"));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a < b ? -1 : Number(a > b);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return words.compare(a, b);
}

function sort(table, head) {
  const flipped = { ascending: "descending", descending: "ascending" };
  const order = flipped[head.getAttribute("aria-sort")] ?? head.dataset.first ?? "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const keyed = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[head.cellIndex]), row]);
  // What has no value stays at the end in either order.
  keyed.sort(([a], [b]) => (a === null || b === null ? Number(a === null) - Number(b === null) : sign * compare(a, b)));
  const sorted = document.createDocumentFragment();
  for (const [, row] of keyed) sorted.append(row);
  table.tBodies[0].append(sorted);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head));
  }
}

for (const controls of document.querySelectorAll("[data-filters]")) {
  const table = document.getElementById(controls.dataset.filters);
  const choice = controls.querySelector("select");
  const typed = controls.querySelector("input");
  const filter = () => {
    const part = typed.value.trim().toLowerCase();
    let left = 0;
    for (const row of table.tBodies[0].rows) {
      const named = row.cells[0].textContent.toLowerCase().includes(part);
      row.hidden = !(named && (choice.selectedIndex === 0 || row.cells[1].textContent === choice.value));
      left += row.hidden ? 0 : 1;
    }
    controls.querySelector("output").textContent = `${left} of ${table.tBodies[0].rows.length} rows`;
  };
  choice.addEventListener("change", filter);
  typed.addEventListener("input", filter);
  filter();
}
