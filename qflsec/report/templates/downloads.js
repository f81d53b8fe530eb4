"use strict";
/* Figures as PNG: title, drawing and key on one sheet, in the colours that are seen. Nothing leaves the page. */
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LOOKS = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "fill-opacity", "stroke-opacity", "font-family", "font-size", "font-weight", "text-anchor", "visibility"];
  const SCALE = 2, PAD = 12;
  const pen = document.createElement("canvas").getContext("2d");

  const element = (name, attributes, text = "") => {
    const made = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.textContent = text;
    return made;
  };
  // a sheet by itself has no style sheet: what each part looks like is written on it
  const copied = (node) => {
    const copy = node.cloneNode(false);
    if (node.nodeType === Node.ELEMENT_NODE) {
      const looks = getComputedStyle(node);
      LOOKS.forEach((name) => copy.setAttribute(name, looks.getPropertyValue(name)));
      copy.removeAttribute("class");
    }
    node.childNodes.forEach((child) => copy.append(copied(child)));
    return copy;
  };
  const placed = (svg, x, y, width, height) => {
    const copy = copied(svg);
    Object.entries({ x, y, width, height }).forEach(([key, value]) => copy.setAttribute(key, value));
    return copy;
  };
  const wrapped = (text, font, room) => {
    pen.font = font;
    const lines = [""];
    for (const word of text.split(/\s+/)) {
      const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
      if (lines.at(-1) && pen.measureText(longer).width > room) lines.push(word); else lines[lines.length - 1] = longer;
    }
    return lines;
  };

  const sheet = (figure) => {
    const chart = figure.querySelector(".scroll > svg");
    const [, , width, height] = chart.getAttribute("viewBox").split(" ").map(Number);
    const page = getComputedStyle(document.body);
    const ink = page.color, family = page.fontFamily;
    const parts = [];
    let y = PAD;
    for (const line of wrapped(figure.querySelector("figcaption").firstChild.textContent.trim(), `600 14px ${family}`, width - 2 * PAD)) {
      y += 18;
      parts.push(element("text", { x: PAD, y: y - 4, fill: ink, "font-family": family, "font-size": 14, "font-weight": 600 }, line));
    }
    y += 6;
    parts.push(placed(chart, 0, y, width, height));
    y += height + 6;
    let x = PAD;
    pen.font = `12px ${family}`;
    for (const item of figure.querySelectorAll(".keys li")) {
      const text = item.textContent.trim();
      const room = 32 + pen.measureText(text).width + 14;
      if (x > PAD && x + room > width - PAD) { x = PAD; y += 20; }
      parts.push(placed(item.querySelector("svg"), x, y, 26, 14));
      parts.push(element("text", { x: x + 32, y: y + 11, fill: ink, "font-family": family, "font-size": 12 }, text));
      x += room;
    }
    y += (x > PAD ? 20 : 0) + PAD;
    const root = element("svg", { viewBox: `0 0 ${width} ${y}`, width: width * SCALE, height: y * SCALE });
    root.append(element("rect", { width, height: y, fill: page.backgroundColor }), ...parts);
    return { text: new XMLSerializer().serializeToString(root), width: width * SCALE, height: y * SCALE };
  };

  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const drawn = async (figure, name) => {
    const { text, width, height } = sheet(figure);
    const address = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    const image = new Image(width, height);
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(image, 0, 0, width, height);
    URL.revokeObjectURL(address);
    canvas.toBlob((blob) => save(blob, name), "image/png");
  };

  document.querySelectorAll("figure.figure").forEach((figure) => {
    const title = figure.querySelector("figcaption").textContent.trim();
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "tool png", textContent: "PNG" });
    button.setAttribute("aria-label", `Save as PNG: ${title}`);
    const name = title.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 80).toLowerCase() || "figure";
    button.addEventListener("click", () => drawn(figure, `${name}.png`));
    figure.append(button);
  });
})();
