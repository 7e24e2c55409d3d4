"use strict";
// Charts are drawn by Vega, with its interpreter, so that the page runs no text as a program.
const views = new Map();
const config = JSON.parse(document.getElementById("chart-config").textContent);

async function draw(place) {
  const spec = JSON.parse(place.querySelector("script").textContent);
  const stage = document.createElement("div");
  place.append(stage);
  const { view } = await vegaEmbed(stage, spec, { config, renderer: "svg", actions: false, ast: true });
  views.set(place, view);
}

function sort(head, button) {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  const key = row => {
    const cell = row.cells[column], number = parseFloat(cell.dataset.key);
    return Number.isNaN(number) ? cell.textContent.trim() : number;
  };
  const order = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === typeof b ? a.localeCompare(b, undefined, { numeric: true })
      : typeof a === "number" ? -1 : 1;
  const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * order(key(a), key(b)));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}

function step(stepper) {
  const steps = JSON.parse(stepper.querySelector("script.steps").textContent);
  const slider = stepper.querySelector("input"), said = stepper.querySelector("output"), play = stepper.querySelector(".play");
  const plots = [...stepper.querySelectorAll(".plot")], frames = [...stepper.querySelectorAll(".frame")];
  const names = plots.map(plot => views.get(plot).data("cells").map(({ row, column }) => ({ row, column })));
  let timer = null;
  function show() {
    const at = Number(slider.value);
    said.textContent = steps.said[at];
    slider.setAttribute("aria-valuetext", steps.said[at]);
    plots.forEach((plot, i) => {
      const values = steps.tables[at][i].flat(), wide = steps.tables[at][i][0].length;
      const kept = new Set(steps.marks[at][i].map(([row, column]) => row * wide + column));
      const cells = names[i].map((name, j) => ({ ...name, value: values[j], mark: kept.has(j) ? 1 : 0 }));
      views.get(plot).data("cells", cells).runAsync();
    });
    let shown = null;
    for (const frame of frames) if (Number(frame.dataset.index) <= at) shown = frame;
    for (const frame of frames) frame.hidden = frame !== shown;
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (slider.value === slider.max) slider.value = slider.min;
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    show();
    timer = setInterval(() => {
      slider.stepUp();
      show();
      if (slider.value === slider.max) stop();
    }, 700);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  show();
}

for (const head of document.querySelectorAll("thead th")) {
  const button = head.querySelector("button");
  button.addEventListener("click", () => sort(head, button));
}
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
Promise.all([...document.querySelectorAll(".plot")].map(draw)).then(() => {
  document.querySelectorAll(".stepper").forEach(step);
  document.documentElement.dataset.drawn = "true";
});
