// Elements, small plots (rows as bars, values as lines), and colour bars.
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

function frame(name, [low, high], unit, parts, text, more = "") {
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${text}` }, ...parts);
  return h("div", { class: "plot" }, h("h3", {}, name), drawing,
    h("div", { class: "ends" }, h("span", {}, low), h("span", {}, unit), h("span", {}, high)), more && h("p", { class: "note warn" }, more));
}

// Several plots below one note that says what they show.
export const plots = (note, list) => (list.length ? h("div", {}, h("p", { class: "note" }, note), h("div", { class: "plots" }, ...list)) : null);

const at = (value, low, high) => Math.min(WIDTH, Math.max(0, (value - low) * WIDTH / (high - low)));
const line = (kind, x) => svg("line", { class: kind, x1: x, x2: x, y1: 0, y2: HEIGHT });
const ends = ({ labels }, low, high) => (labels ? [labels[0], labels.at(-1)] : [low.toPrecision(3), high.toPrecision(3)]);

export const AMONG = "line: as it was; dashed: the answer; bars: ";

export function among(name, variable, { edges, counts }, was, is, more) {
  const low = edges[0], high = edges.at(-1);
  return frame(name, ends(variable, low, high), variable.unit, [...bars(counts, edges, low, high), line("was", at(was, low, high)), line("is", at(is, low, high))],
    `${was} before, ${is} after, among other rows`, more);
}

export function populations(name, variable, { edges, before, after }) {
  const low = edges[0], high = edges.at(-1), most = Math.max(...after, 1e-9), scale = WIDTH / (high - low);
  let path = `M0 ${HEIGHT}`;
  after.forEach((share, k) => { const y = HEIGHT * (1 - share / most) + 1; path += ` L${(edges[k] - low) * scale} ${y} L${(edges[k + 1] - low) * scale} ${y}`; });
  return frame(name, ends(variable, low, high), variable.unit, [...bars(before, edges, low, high), svg("path", { class: "now", d: `${path} L${WIDTH} ${HEIGHT}` })],
    "the population as it is, and the population asked for");
}

export function course(name, variable, xs, ys) {
  const low = Math.min(...ys), high = Math.max(...ys), height = high - low || 1;
  const points = ys.map((y, k) => `${at(xs[k], xs[0], xs.at(-1))},${HEIGHT - 4 - (HEIGHT - 8) * (y - low) / height}`).join(" ");
  return frame(name, [`from ${low.toPrecision(3)}`, `to ${high.toPrecision(3)}`], variable.unit, [svg("polyline", { class: "now", points })], `from ${low} to ${high}`);
}

export const bar = (kind, low, high) => [h("div", { class: `bar ${kind}` }), h("div", { class: "ends" }, h("span", {}, low), h("span", {}, "grey levels"), h("span", {}, high))];
