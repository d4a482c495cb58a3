// Arrows between the nodes as they stand: cut ones dotted with a cross, lit ones thick.
import { svg } from "./drawing.js";

export function drawArrows(canvas, graph, schema, cut, lit) {
  const origin = graph.getBoundingClientRect(), boxes = {};
  for (const node of graph.querySelectorAll(".node")) {
    const box = node.getBoundingClientRect();
    boxes[node.dataset.name] = { x: box.left - origin.left + box.width / 2, top: box.top - origin.top, bottom: box.bottom - origin.top, width: box.width };
  }
  const isLit = (a, b) => lit.some(([x, y]) => x === a && y === b);
  const tip = (id, kind) => svg("marker", { id, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" },
    svg("path", { class: `tip ${kind}`, d: "M0 0L10 5L0 10z" }));
  canvas.replaceChildren(svg("defs", {}, tip("tip", ""), tip("tip-lit", "lit")));
  const into = {};
  for (const [a, b] of schema.edges) (into[b] ??= []).push(a);
  for (const list of Object.values(into)) list.sort((p, q) => boxes[p].x - boxes[q].x);
  for (const [a, b] of schema.edges) {
    // Arrows into one node arrive side by side, in the order of where they come from.
    const n = into[b].length, k = into[b].indexOf(a);
    const from = boxes[a], to = boxes[b], x = to.x + (n > 1 ? ((k / (n - 1)) - 0.5) * to.width * 0.5 : 0);
    const bend = Math.max(16, (to.top - from.bottom) / 2);
    const kind = `${cut.has(b) ? "cut" : ""} ${isLit(a, b) ? "lit" : ""}`;
    const line = svg("path", { class: `arrow ${kind}`, "data-edge": `${a}>${b}`, "marker-end": `url(#${isLit(a, b) ? "tip-lit" : "tip"})`,
      d: `M${from.x} ${from.bottom} C${from.x} ${from.bottom + bend} ${x} ${to.top - bend} ${x} ${to.top - 2}` });
    canvas.append(line);
    if (cut.has(b)) cross(canvas, line);
  }
  for (const [a, b] of schema.bidirected) {
    const from = boxes[a], to = boxes[b], y = Math.min(from.top, to.top) - 26;
    const line = svg("path", { class: `arrow hidden-cause ${cut.has(a) || cut.has(b) ? "cut" : ""}`, "data-edge": `${a}<>${b}`,
      "marker-start": "url(#tip)", "marker-end": "url(#tip)", d: `M${from.x} ${from.top} C${from.x} ${y} ${to.x} ${y} ${to.x} ${to.top}` });
    canvas.append(line);
    if (cut.has(a) || cut.has(b)) cross(canvas, line);
  }
}

function cross(canvas, line) {
  const { x, y } = line.getPointAtLength(line.getTotalLength() * 0.62);
  canvas.append(svg("path", { class: "cross", d: `M${x - 6} ${y - 6}L${x + 6} ${y + 6}M${x - 6} ${y + 6}L${x + 6} ${y - 6}` }));
}
