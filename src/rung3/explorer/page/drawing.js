// Elements, and small plots: rows as bars, values as lines.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const WIDTH = 240, HEIGHT = 80;

function bars(shares, edges, low, high) {
  const most = Math.max(...shares, 1e-9), scale = WIDTH / (high - low);
  return shares.map((share, k) => svg("rect", { class: "rows", x: (edges[k] - low) * scale, y: HEIGHT * (1 - share / most),
    width: Math.max(1, (edges[k + 1] - edges[k]) * scale - 1), height: HEIGHT * share / most }));
}

function frame(title, low, high, unit, parts, legend) {
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${legend}` }, ...parts);
  return h("div", { class: "plot" }, h("h3", {}, title), drawing,
    h("div", { class: "ends" }, h("span", {}, low), h("span", {}, unit), h("span", {}, high)), h("p", { class: "note" }, legend));
}

export function histogram(density, variable) {
  const edges = variable.labels ? [...density.edges.map((code) => code - 0.5), density.edges.length - 0.5] : density.edges;
  const low = edges[0], high = edges[edges.length - 1], at = (value) => (value - low) * WIDTH / (high - low);
  const line = (value, kind) => svg("line", { class: kind, x1: at(value), x2: at(value), y1: 0, y2: HEIGHT });
  const ends = variable.labels ? [variable.labels[0], variable.labels.at(-1)] : [low.toPrecision(3), high.toPrecision(3)];
  return frame(density.name, ...ends, variable.unit, [...bars(density.counts, edges, low, high), line(density.old, "was"), line(density.new, "is")],
    "bars: rows held out; line: as it was; dashed: the answer" + (density.outside ? "; outside the training range" : ""));
}

export function populations(name, unit, { edges, before, after }) {
  const low = edges[0], high = edges[edges.length - 1], most = Math.max(...after, 1e-9), scale = WIDTH / (high - low);
  let path = `M0 ${HEIGHT}`;
  after.forEach((share, k) => { const y = HEIGHT * (1 - share / most) + 1; path += ` L${(edges[k] - low) * scale} ${y} L${(edges[k + 1] - low) * scale} ${y}`; });
  return frame(name, low.toPrecision(3), high.toPrecision(3), unit, [...bars(before, edges, low, high), svg("path", { class: "now", d: `${path} L${WIDTH} ${HEIGHT}` })],
    "bars: the population; line: the other one (each to its own height)");
}
