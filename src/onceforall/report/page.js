const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: "#1d2129" };
const axis = { automargin: true, gridcolor: "#e8ebef", zeroline: false };
const figures = JSON.parse(document.getElementById("figures").textContent);
for (const place of document.querySelectorAll("[data-figure]")) {
  const { data, layout } = figures[place.dataset.figure];
  const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" };
  const whole = { font, legend, margin: { l: 8, r: 8, t: 36, b: 8 }, hoverlabel: { align: "left" }, ...layout };
  for (const name of ["xaxis", "yaxis"]) whole[name] = { ...axis, ...layout[name] };
  Plotly.newPlot(place, data, whole, { responsive: true, displayModeBar: false, displaylogo: false });
}
for (const head of document.querySelectorAll("[data-sortable] th")) {
  head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending", column = head.cellIndex;
    const body = head.closest("table").tBodies[0], key = (row) => row.cells[column].dataset.value;
    const text = (row) => row.cells[column].textContent, number = (row) => parseFloat(key(row)) || 0;
    const words = (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true });
    const order = (a, b) => key(a) === undefined ? words(a, b) : number(a) - number(b);
    const rows = [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}
