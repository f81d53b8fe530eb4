"use strict";
/* What any page needs: the colour scheme, the contents, what is scrolled, what a link opens. All is readable without it. */
(() => {
  const root = document.documentElement;
  const every = (selector, from = document) => [...from.querySelectorAll(selector)];

  // the colour scheme: as the system has it, or the reader's choice, which the browser keeps where it may
  const themes = ["automatic", "dark", "light"];
  const kept = () => { try { return localStorage.getItem("qflsec-theme"); } catch { return null; } };
  const choose = (name) => {
    if (name === "automatic") delete root.dataset.theme; else root.dataset.theme = name;
    button.textContent = `Colours: ${name}`;
    button.value = name;
    try { localStorage.setItem("qflsec-theme", name); } catch { /* a page without storage forgets it */ }
  };
  const button = document.getElementById("theme");
  button.hidden = false;
  choose(themes.includes(kept()) ? kept() : "automatic");
  button.addEventListener("click", () => choose(themes[(themes.indexOf(button.value) + 1) % themes.length]));

  // the contents: folded where there is little room, with the section in view marked
  const links = new Map(every(".toc a").map((link) => [link.hash.slice(1), link]));
  const contents = document.querySelector(".toc details");
  if (matchMedia("(max-width: 1199px)").matches) contents.open = false;
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "0px 0px -75% 0px" });
  every("main > section").forEach((section) => seen.observe(section));

  // what does not fit says so, and fades where more is to come; the heads of what fits stick to the window
  const measure = (place) => {
    const inner = place.querySelector("table") ?? place.firstElementChild;
    const wide = inner.getBoundingClientRect().width > place.clientWidth + 1;
    place.parentElement.classList.toggle("scrolls", wide);
    place.classList.toggle("fits", !wide);
    place.classList.toggle("rest", wide && place.scrollLeft + place.clientWidth < place.scrollWidth - 1);
  };
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => measure(target)));
  every(".scroll").forEach((place) => {
    sizes.observe(place);
    place.addEventListener("scroll", () => measure(place), { passive: true });
  });

  // a link to what is folded away unfolds it
  const unfold = (place) => {
    for (let outer = place; outer; outer = outer.parentElement) if (outer.tagName === "DETAILS") outer.open = true;
  };

  // the fragment: the place first, then what a script keeps there, such as "#panel-matrix&sort=none"
  const place = () => location.hash.slice(1).split("&")[0];
  const rest = () => location.hash.slice(1).split("&").slice(1);
  const cells = every("a.cell");
  const show = (id, move) => {
    const article = document.getElementById(id);
    if (!article?.matches("article.drill")) return;
    cells.forEach((cell) => (cell.hash.slice(1) === id ? cell.setAttribute("aria-current", "true") : cell.removeAttribute("aria-current")));
    every("article.drill.open").forEach((other) => other.classList.remove("open"));
    article.classList.add("open");
    document.getElementById("hint").hidden = true;
    if (move) article.focus({ preventScroll: true });
  };
  const visit = (id, move) => {
    const target = id && document.getElementById(id);
    if (!target) return;
    show(id, move);
    unfold(target);
    target.scrollIntoView({ block: "start" });
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const id = link.hash.slice(1);
    history.pushState(null, "", "#" + [id, ...rest()].join("&"));
    visit(id, true);
    if (link.classList.contains("skip")) document.getElementById("main").focus();
  });
  addEventListener("popstate", () => visit(place(), false));
  if (place()) visit(place(), true);

  // paper shows what is folded; older browsers cannot by style alone
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = every("details:not([open])");
    folded.forEach((part) => (part.open = true));
  });
  addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
})();
