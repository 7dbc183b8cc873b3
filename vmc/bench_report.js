// Sorting and filtering of the benchmark report.  Without it the page is complete.
"use strict";
(() => {
  const table = document.getElementById("results");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const texts = new Intl.Collator(undefined, { numeric: true });

  // ---- sorting: a button in every head; what has no number comes last
  function sort(index, direction) {
    const numeric = heads[index].classList.contains("n");
    const keyed = rows.map((row, place) => {
      const cell = row.cells[index];
      const value = cell.dataset.v;
      const key = numeric ? (value === undefined ? null : Number(value)) : cell.textContent;
      return { row, place, key };
    });
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) {
        return (a.key === null) - (b.key === null) || a.place - b.place;
      }
      const order = numeric ? a.key - b.key : texts.compare(a.key, b.key);
      return direction * order || a.place - b.place;
    });
    body.append(...keyed.map((one) => one.row));
    heads.forEach((head, n) => {
      head.setAttribute("aria-sort", n !== index ? "none" : direction > 0 ? "ascending" : "descending");
    });
  }
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      sort(index, head.getAttribute("aria-sort") === "ascending" ? -1 : 1);
    });
  });

  // ---- filtering: rows of the table, panels and methods of the figures
  const form = document.getElementById("filters");
  const traces = [...document.querySelectorAll("[data-method]:not(tr)")];
  const panels = [...document.querySelectorAll(".panels > section")];
  function filter() {
    const word = form.elements.word.value.trim().toLowerCase();
    const problem = form.elements.problem.value;
    const method = form.elements.method.value;
    const verdict = form.elements.verdict.value;
    let shown = 0;
    for (const row of rows) {
      const data = row.dataset;
      const fits =
        (!problem || data.problem === problem) &&
        (!method || data.method === method) &&
        (!verdict || data.verdict === verdict) &&
        (!word || row.textContent.toLowerCase().includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    for (const panel of panels) panel.hidden = Boolean(problem) && panel.dataset.problem !== problem;
    for (const one of traces) {
      one.classList.toggle("dimmed", Boolean(method) && one.dataset.method !== method);
    }
    form.elements.shown.value = `${shown} of ${rows.length} rows`;
  }
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();

  // ---- printing: what is folded is printed too, apart from the jobs
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.job)")];
    opened.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));
})();
