"use strict";
/* A served page asks whether the store has changed, and loads itself anew, as the reader left it. */
(() => {
  const every = (selector) => [...document.querySelectorAll(selector)];
  const bar = document.getElementById("live");
  const mine = bar.dataset.version;
  const key = "qflsec-live";

  const keep = () => {
    const state = {
      at: [scrollX, scrollY],
      open: every("details").map((part) => part.open),
      across: every(".scroll").map((part) => [part.scrollLeft, part.scrollTop]),
      focus: document.activeElement?.id || "",
    };
    try { sessionStorage.setItem(key, JSON.stringify(state)); } catch { /* without storage it begins at the top */ }
  };
  const restore = () => {
    let state = null;
    try { state = JSON.parse(sessionStorage.getItem(key)); sessionStorage.removeItem(key); } catch { return; }
    if (!state) return;
    const folds = every("details");
    // another number of parts is another page: then only the place is kept
    if (folds.length === state.open.length) folds.forEach((part, index) => (part.open = state.open[index]));
    const wide = every(".scroll");
    if (wide.length === state.across.length) wide.forEach((part, index) => part.scrollTo(...state.across[index]));
    if (state.focus) document.getElementById(state.focus)?.focus({ preventScroll: true });
    scrollTo({ left: state.at[0], top: state.at[1], behavior: "instant" });
  };

  const say = (text) => { if (bar.textContent !== text) bar.textContent = text; };
  let misses = 0;
  const ask = async () => {
    let wait = 2000;
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const { version, ended } = await answer.json();
      misses = 0;
      if (version !== mine) { keep(); location.reload(); return; }
      if (ended) { say("The run has ended; this is its last page. Save it, or make it again with 'qflsec matrix report'."); return; }
      say("Live: this page follows the run.");
    } catch {
      misses += 1;
      say("The run does not answer: this page stays as it is.");
      if (misses > 5) return;
      wait = 4000;
    }
    setTimeout(ask, wait);
  };
  restore();
  setTimeout(ask, 1000);
})();
