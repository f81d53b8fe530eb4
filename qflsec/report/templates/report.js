"use strict";
(() => {
  const draw = (place) => {
    if (place.dataset.drawn) return;
    const figure = JSON.parse(place.querySelector("script").textContent);
    place.dataset.drawn = "yes";
    Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false });
  };
  document.querySelectorAll(".figure").forEach((place) => { if (!place.closest("article")) draw(place); });
  const buttons = document.querySelectorAll("button.cell");
  const show = (button, move) => {
    buttons.forEach((other) => other.setAttribute("aria-expanded", String(other === button)));
    document.querySelectorAll("article.drill").forEach((article) => article.classList.remove("open"));
    const article = document.getElementById(button.getAttribute("aria-controls"));
    article.classList.add("open");
    article.querySelectorAll(".figure").forEach(draw);
    document.getElementById("hint").hidden = true;
    if (move) { article.focus({ preventScroll: true }); article.scrollIntoView({ block: "nearest" }); }
    history.replaceState(null, "", "#" + article.id);
  };
  buttons.forEach((button) => button.addEventListener("click", () => show(button, true)));
  const named = location.hash && document.querySelector(`button.cell[aria-controls="${CSS.escape(location.hash.slice(1))}"]`);
  if (named) show(named, true);
})();
