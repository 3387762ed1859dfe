"use strict";
const at = (name) => document.getElementById(name);
const orders = JSON.parse(at("orders").textContent);
const cards = new Map([...at("cards").children].map((card) => [card.dataset.number, card]));
const rows = [...at("videos").tBodies[0].rows];

at("order").addEventListener("change", () =>
  at("cards").append(...orders[at("order").value].map((number) => cards.get(String(number)))));

at("filter").addEventListener("input", () => {
  const wanted = at("filter").value.trim().toLowerCase();
  for (const each of [...cards.values(), ...rows]) {
    each.hidden = !each.dataset.name.toLowerCase().includes(wanted);
  }
  const left = rows.filter((row) => !row.hidden).length;
  at("shown").textContent = `${left} of ${rows.length} videos`;
});

for (const [name, open] of [["fold", false], ["unfold", true]]) {
  at(name).addEventListener("click", () => cards.forEach((card) => { card.open = open; }));
}

at("videos").tHead.addEventListener("click", (event) => {
  const head = event.target.closest("th");
  const downward = head.getAttribute("aria-sort") === "ascending";
  for (const each of head.parentNode.cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", downward ? "descending" : "ascending");
  const value = (row) => { // null where there is none: always last
    if (head.cellIndex === 0) return row.dataset.name;
    const text = row.cells[head.cellIndex]?.dataset.value;
    return text ? Number(text) : null;
  };
  const sign = downward ? -1 : 1;
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x < y ? -1 : x > y ? 1 : 0);
  });
  at("videos").tBodies[0].append(...rows);
});

function reveal() { // the card that an address names
  const card = at(location.hash.slice(1));
  if (card?.tagName === "DETAILS") card.open = true;
}
addEventListener("hashchange", reveal);
reveal();

for (const card of cards.values()) {
  const films = [...card.querySelectorAll("video")];
  const charts = [...card.querySelectorAll(".chart svg")];
  card.addEventListener("toggle", () => {
    for (const film of films) if (card.open) film.preload = "auto";
    else film.pause();
  });
  card.querySelector(".both")?.addEventListener("click", () => {
    films.forEach((film, i) => {
      film.currentTime = 0;
      film.muted = i > 0; // one voice at a time
      film.play();
    });
  });
  for (const film of films) {
    film.addEventListener("timeupdate", () => {
      for (const chart of charts) {
        const [left, right] = chart.dataset.field.split(" ").map(Number);
        const x = left + (right - left) * Math.min(film.currentTime / chart.dataset.seconds, 1);
        const line = chart.querySelector(".playhead");
        line.setAttribute("x1", x);
        line.setAttribute("x2", x);
      }
    });
  }
  for (const chart of charts) { // a click on a curve goes to that time
    chart.addEventListener("click", (event) => {
      const [left, right] = chart.dataset.field.split(" ").map(Number);
      const box = chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const share = Math.min(Math.max((x - left) / (right - left), 0), 1);
      for (const film of films) film.currentTime = share * chart.dataset.seconds;
    });
  }
}
