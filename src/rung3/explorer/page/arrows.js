// Arrows between the nodes: cut ones dotted with a cross, highlighted ones thick, each in the colour of its kind.
import { svg } from "./drawing.js";

const GAP = 16;  // pixels between a node and an arrow that passes it

export function drawArrows(canvas, graph, { edges, bidirected }, cut, lit) {
  const origin = graph.getBoundingClientRect(), boxes = {};
  for (const node of graph.querySelectorAll(".node")) {
    const box = node.getBoundingClientRect(), left = box.left - origin.left, top = box.top - origin.top;
    boxes[node.dataset.name] = { left, top, width: box.width, x: left + box.width / 2, right: left + box.width, bottom: top + box.height, y: top + box.height / 2 };
  }
  const kindOf = (a, b) => { const found = lit.find(([x, y]) => x === a && y === b); return found ? found[2] ?? "lit" : ""; };
  const tipOf = (kind) => `url(#${canvas.id}-tip${kind && `-${kind}`})`;
  const tip = (id, kind) => svg("marker", { id, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" },
    svg("path", { class: `tip ${kind}`, d: "M0 0L10 5L0 10z" }));
  const kinds = ["", ...new Set(lit.map(([, , kind]) => kind ?? "lit"))];
  canvas.replaceChildren(svg("defs", {}, ...kinds.map((kind) => tip(`${canvas.id}-tip${kind && `-${kind}`}`, kind))));
  const add = (kind, isCut, attributes) => {
    const line = svg("path", { class: `arrow ${kind} ${isCut ? "cut" : ""}`, ...attributes });
    canvas.append(line);
    if (isCut) cross(canvas, line);
  };

  // Arrows into one node arrive side by side, in the order of where they come from.
  const lanes = new Map(), taken = [];
  for (const [a, b] of edges) lanes.set(`${a}>${b}`, lane(boxes, boxes[a], boxes[b], taken));
  const into = {};
  for (const [a, b] of edges) (into[b] ??= []).push(a);
  for (const [b, list] of Object.entries(into)) list.sort((p, q) => lanes.get(`${p}>${b}`).x - lanes.get(`${q}>${b}`).x);
  for (const [a, b] of edges) {
    const n = into[b].length, k = into[b].indexOf(a), from = boxes[a], to = boxes[b];
    const x = to.x + (n > 1 ? ((k / (n - 1)) - 0.5) * to.width * 0.5 : 0), end = to.top - 2;
    const { x: aside, top, bottom } = lanes.get(`${a}>${b}`);
    const d = top === undefined
      ? `M${from.x} ${from.bottom} ${curve(from.x, from.bottom, x, end)}`
      : `M${from.x} ${from.bottom} ${curve(from.x, from.bottom, aside, top)} L${aside} ${bottom} ${curve(aside, bottom, x, end)}`;
    add(kindOf(a, b), cut.has(b), { "data-edge": `${a}>${b}`, "marker-end": tipOf(kindOf(a, b)), d });
  }
  for (const [a, b] of bidirected) {
    const kind = kindOf(a, b), ends = { "marker-start": tipOf(kind), "marker-end": tipOf(kind) };
    add(`hidden-cause ${kind}`, cut.has(a) || cut.has(b), { "data-edge": `${a}<>${b}`, ...ends, d: bow(boxes, boxes[a], boxes[b]) });
  }
}

function curve(x, y, toX, toY) {
  const bend = Math.max(GAP, (toY - y) / 2);
  return `C${x} ${y + bend} ${toX} ${toY - bend} ${toX} ${toY}`;
}

function between(boxes, from, to) {
  return Object.values(boxes).filter((box) => box.top > from.bottom && box.bottom < to.top);
}

function lane(boxes, from, to, taken) {
  // Where an arrow passes the nodes between its ends: the free place nearest to the straight way.
  const passed = between(boxes, from, to);
  const free = (x) => passed.every((box) => x < box.left - GAP / 4 || x > box.right + GAP / 4) && taken.every((other) => Math.abs(x - other) > GAP / 2);
  const beside = (box) => [1, 2, 3].flatMap((k) => [box.left - k * GAP, box.right + k * GAP]);
  const places = [from.x, to.x, ...passed.flatMap(beside)].filter((x) => x > 2 && free(x));
  if (!passed.length || !places.length) return { x: from.x };
  const way = (x) => Math.abs(x - from.x) + Math.abs(x - to.x);
  const x = places.reduce((best, place) => (way(place) < way(best) ? place : best));
  taken.push(x);
  return { x, top: Math.min(...passed.map((box) => box.top)), bottom: Math.max(...passed.map((box) => box.bottom)) };
}

function bow(boxes, a, b) {
  // Over the tops of nodes side by side; otherwise past all between them, on the side where fewer stand.
  if (a.top < b.bottom && b.top < a.bottom) {
    const y = Math.min(a.top, b.top) - 26;
    return `M${a.x} ${a.top} C${a.x} ${y} ${b.x} ${y} ${b.x} ${b.top}`;
  }
  const [upper, lower] = a.top < b.top ? [a, b] : [b, a];
  const beside = Object.values(boxes).filter((box) => box !== a && box !== b && box.bottom > upper.top && box.top < lower.bottom);
  const level = (box) => [a, b].filter((end) => box.top < end.bottom && box.bottom > end.top);  // it would be crossed
  const [left, right] = [-1, 1].map((side) => beside.filter((box) => level(box).some((end) => side * (box.x - end.x) > 0)).length);
  const edges = [a, b, ...beside];
  const [from, to, x] = right <= left
    ? [a.right, b.right, Math.max(...edges.map((box) => box.right)) + 2 * GAP]
    : [a.left, b.left, Math.min(...edges.map((box) => box.left)) - 2 * GAP];
  return `M${from} ${a.y} C${x} ${a.y} ${x} ${b.y} ${to} ${b.y}`;
}

function cross(canvas, line) {
  const { x, y } = line.getPointAtLength(line.getTotalLength() * 0.62);
  canvas.append(svg("path", { class: "cross", d: `M${x - 6} ${y - 6}L${x + 6} ${y + 6}M${x - 6} ${y + 6}L${x + 6} ${y - 6}` }));
}
