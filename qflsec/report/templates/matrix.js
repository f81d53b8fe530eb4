"use strict";
/* Sort, find and hide rows and columns of the matrix. What is chosen stands in the fragment, so that a link keeps it. */
(() => {
  const table = document.querySelector("table[data-tools]");
  if (!table) return;
  const every = (selector, from = table) => [...from.querySelectorAll(selector)];
  const body = table.tBodies[0];
  const original = [...body.rows];
  const rows = original.filter((row) => row.dataset.row);
  const heads = every("thead th[data-col]");
  const columns = heads.map((head) => head.dataset.col);
  const blank = () => ({ rows: "", columns: "", find: "", norows: [], nocols: [] });
  let view = blank();

  // the fragment: "#place&rows=none:down&columns=dlg:up&find=flip&norows=a,b&nocols=c"; names are encoded
  const keys = ["rows", "columns", "find", "norows", "nocols"];
  const read = () => {
    view = blank();
    for (const part of location.hash.slice(1).split("&").slice(1)) {
      const [key, value = ""] = part.split("=");
      if (!keys.includes(key)) continue;
      try {
        view[key] = key.startsWith("no") ? value.split(",").map(decodeURIComponent) : decodeURIComponent(value);
      } catch { /* not a fragment of ours */ }
    }
  };
  const write = () => {
    const parts = location.hash.slice(1).split("&").filter((part, at) => at === 0 || !keys.includes(part.split("=")[0]));
    for (const key of keys) {
      const value = key.startsWith("no") ? view[key].map(encodeURIComponent).join(",") : encodeURIComponent(view[key]);
      if (value) parts.push(`${key}=${value}`);
    }
    const fragment = parts.join("&");
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
    apply();
  };

  const value = (row, column) => {
    const cell = [...row.cells].find((one) => one.dataset.col === column);
    return cell?.dataset.value ? Number(cell.dataset.value) : NaN;
  };
  // what has no number stands last in both directions
  const compare = (first, second, way) => {
    if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
    return way === "up" ? first - second : second - first;
  };
  const split = (text) => { const at = text.lastIndexOf(":"); return [text.slice(0, at), text.slice(at + 1)]; };

  const apply = () => {
    const held = document.activeElement; // what moves in the document loses the focus
    const [by, way] = split(view.rows);
    const sorted = columns.includes(by);
    const words = view.find.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.dataset.find.toLowerCase();
      row.hidden = view.norows.includes(row.dataset.row) || !words.every((word) => text.includes(word));
    }
    const order = sorted ? [...rows].sort((a, b) => compare(value(a, by), value(b, by), way)) : original;
    if (sorted) original.filter((row) => !row.dataset.row).forEach((row) => (row.hidden = true));
    order.forEach((row) => body.append(row));
    if (!sorted) {
      let family = null;
      for (const row of original) {
        if (!row.dataset.row) { family = row; row.hidden = true; } else if (family && !row.hidden) family.hidden = false;
      }
    }
    const [along, turn] = split(view.columns);
    const line = rows.find((row) => row.dataset.row === along);
    const across = line ? [...columns].sort((a, b) => compare(value(line, a), value(line, b), turn)) : columns;
    for (const row of every("tr")) {
      const cells = new Map([...row.cells].filter((cell) => cell.dataset.col).map((cell) => [cell.dataset.col, cell]));
      across.forEach((name) => {
        const cell = cells.get(name);
        if (!cell) return;
        cell.hidden = view.nocols.includes(name);
        row.append(cell);
      });
    }
    say(sorted ? by : "", way, line ? along : "", turn);
    if (held !== document.activeElement) held.focus({ preventScroll: true });
  };

  // controls, all of them reached and used by the keyboard
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const cycle = (current, name) => {
    const [by, way] = split(current);
    return by !== name ? `${name}:down` : way === "down" ? `${name}:up` : "";
  };
  const sorter = (head, name, key, what) => {
    const button = make("button", { type: "button", className: "sort", title: `Sort ${what} by ${name}: largest first, smallest first, as given` });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => { view[key] = cycle(view[key], name); write(); });
  };
  heads.forEach((head) => sorter(head.querySelector(".head"), head.dataset.col, "rows", "the rows"));
  rows.forEach((row) => sorter(row.cells[0].querySelector(".head"), row.dataset.row, "columns", "the columns"));
  const chooser = (title, names, key) => make("details", { className: "choose" }, make("summary", { textContent: title }),
    make("div", {}, ...names.map((name) => {
      const box = make("input", { type: "checkbox", value: name });
      box.dataset.key = key;
      box.addEventListener("change", () => {
        view[key] = names.filter((one) => (one === name ? !box.checked : view[key].includes(one)));
        write();
      });
      return make("label", {}, box, ` ${name}`);
    })));
  const find = make("input", { type: "search", placeholder: "a part of a name" });
  find.addEventListener("input", () => { view.find = find.value; write(); });
  const all = make("button", { type: "button", className: "tool", textContent: "Reset" });
  all.addEventListener("click", () => { view = blank(); write(); find.focus(); });
  const status = make("span", { className: "soft" });
  status.setAttribute("role", "status");
  const tools = make("div", { className: "tools" },
    make("label", {}, "Find ", find),
    chooser("Rows", rows.map((row) => row.dataset.row), "norows"),
    chooser("Columns", columns, "nocols"), all, status);
  table.closest(".scroll").before(tools);
  document.addEventListener("click", (event) => every("details[open]", tools).forEach((menu) => {
    if (!menu.contains(event.target)) menu.open = false;
  }));
  tools.addEventListener("keydown", (event) => {
    const menu = event.target.closest("details");
    if (event.key === "Escape" && menu) { menu.open = false; menu.querySelector("summary").focus(); }
  });

  const say = (by, way, along, turn) => {
    find.value = view.find;
    every("input[type=checkbox]", tools).forEach((box) => (box.checked = !view[box.dataset.key].includes(box.value)));
    const left = rows.filter((row) => !row.hidden).length;
    const wide = columns.filter((name) => !view.nocols.includes(name)).length;
    status.textContent = `${left} of ${rows.length} rows, ${wide} of ${columns.length} columns`;
    all.hidden = keys.every((key) => !view[key].length);
    heads.forEach((head) => {
      if (head.dataset.col === by) head.setAttribute("aria-sort", way === "up" ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    rows.forEach((row) => (row.cells[0].dataset.turn = row.dataset.row === along ? turn : ""));
  };

  // arrows walk over the cells that are shown
  body.addEventListener("keydown", (event) => {
    const cell = event.target.closest("a.cell");
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!cell || !step || event.altKey || event.ctrlKey || event.metaKey) return;
    const grid = [...body.rows].filter((row) => !row.hidden && row.dataset.row)
      .map((row) => every("td:not([hidden]) a.cell", row)).filter((line) => line.length);
    const down = grid.findIndex((line) => line.includes(cell));
    const next = grid[down + step[0]]?.[grid[down].indexOf(cell) + step[1]];
    if (next) { event.preventDefault(); next.focus(); }
  });

  addEventListener("popstate", () => { read(); apply(); });
  read();
  apply();
})();
