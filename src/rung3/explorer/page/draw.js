// Draw a graph, and ask it: paths in colour, adjustment sets, roles; saved as the text of a study.
import { drawArrows } from "./arrows.js";
import { h } from "./drawing.js";
import { $, ask, shown } from "./state.js";

const BLANK = { text: "", treatment: null, outcome: null, adjusted: [] };
const MOST = 100;
let drawn = structuredClone(BLANK), reply = null, held = null, hidden = false;
const past = [];

export function listen() {
  $("draw").addEventListener("click", () => show(document.body.dataset.mode !== "draw"));
  $("graphtext").addEventListener("change", (event) => edit({ text: event.target.value }));
  $("newname").addEventListener("keydown", (event) => { if (event.key === "Enter") add(); });
  $("addname").addEventListener("click", add);
  $("takeback").addEventListener("click", () => { if (past.length > 1) { past.pop(); drawn = past.pop(); edit({}); } });
  $("asmodel").addEventListener("click", () => { held = null; edit({ ...BLANK, text: shown().text }); });
  $("arrowkind").addEventListener("change", (event) => { hidden = event.target.value === "hidden"; });
  new ResizeObserver(arrows).observe($("drawn"));
}

async function show(on) {
  document.body.dataset.mode = on ? "draw" : "";
  $("draw").setAttribute("aria-pressed", on);
  $("draw").textContent = on ? "Back to the model" : "Draw a graph";
  $("drawing").hidden = !on;
  if (on && !reply) await edit({ text: shown().text });
  if (on) arrows();
}

// Ask what is drawn; what is refused is said, and not kept.
async function edit(more) {
  const before = drawn;
  drawn = { ...drawn, ...more };
  try {
    reply = await ask("graph", drawn);
  } catch (error) {
    drawn = before;
    $("graphfault").textContent = error.message;
    $("graphfault").hidden = false;
    return;
  }
  $("graphfault").hidden = true;
  drawn.text = reply.text;
  if (past.at(-1) === undefined || JSON.stringify(past.at(-1)) !== JSON.stringify(drawn)) past.push(structuredClone(drawn));
  if (past.length > MOST) past.shift();
  if (!reply.nodes.includes(held)) held = null;
  draw();
  document.body.dataset.drawn = 1 + Number(document.body.dataset.drawn ?? 0);
}

// Edits of the graph, as arrows of a text that names every variable.
const arrow = (list, a, b) => list.some(([x, y]) => x === a && y === b);
const spell = JSON.stringify;  // the server writes names without quotes where they need none

function written(nodes, edges, bidirected) {
  return [...nodes.map(spell), ...edges.map(([a, b]) => `${spell(a)} -> ${spell(b)}`), ...bidirected.map(([a, b]) => `${spell(a)} <-> ${spell(b)}`)].join("; ");
}

function toggle(a, b) {
  const { nodes, edges, bidirected } = reply, other = (list, x, y) => list.filter(([p, q]) => !(p === x && q === y));
  if (hidden) {
    const there = arrow(bidirected, a, b) || arrow(bidirected, b, a);
    return edit({ text: written(nodes, edges, there ? other(other(bidirected, a, b), b, a) : [...bidirected, [a, b]]) });
  }
  const rest = other(other(edges, a, b), b, a);
  return edit({ text: written(nodes, arrow(edges, a, b) ? rest : [...rest, [a, b]], bidirected) });
}

function remove(name) {
  const without = (list) => list.filter((pair) => !pair.includes(name));
  const nodes = reply.nodes.filter((other) => other !== name);
  if (!nodes.length) return;
  const kept = (one) => (one === name ? null : one);
  edit({ text: written(nodes, without(reply.edges), without(reply.bidirected)), treatment: kept(drawn.treatment), outcome: kept(drawn.outcome), adjusted: drawn.adjusted.filter((other) => other !== name) });
}

function add() {
  const name = $("newname").value.trim();
  if (!name || reply.nodes.includes(name)) return;
  $("newname").value = "";
  edit({ text: written([...reply.nodes, name], reply.edges, reply.bidirected) });
}

function choose(role, name) {
  const others = { treatment: drawn.treatment, outcome: drawn.outcome, adjusted: drawn.adjusted.filter((other) => other !== name) };
  for (const key of ["treatment", "outcome"]) if (others[key] === name) others[key] = null;
  if (role === "adjusted" && !drawn.adjusted.includes(name)) others.adjusted = [...others.adjusted, name];
  else if (role !== "adjusted" && drawn[role] !== name) others[role] = name;
  edit(others);
}

// The drawing ------------------------------------------------------------------------------------

function draw() {
  if (document.activeElement !== $("graphtext")) $("graphtext").value = reply.text;
  $("takeback").disabled = past.length < 2;
  const rows = [...new Set(Object.values(reply.levels))].sort((a, b) => a - b);
  $("drawnnodes").replaceChildren(...rows.map((row) => h("div", { class: "level" }, ...reply.nodes.filter((name) => reply.levels[name] === row).map(node))));
  chosen();
  answers();
  arrows();
}

function roleOf(name) {
  if (name === drawn.treatment || name === drawn.outcome) return name === drawn.treatment ? "treatment" : "outcome";
  const role = reply.roles?.[name] ?? "";
  return drawn.adjusted.includes(name) ? `adjusted${role && role !== "unrelated" ? ` · ${role}` : ""}` : role;
}

function node(name) {
  const role = roleOf(name);
  const press = (event) => { event.currentTarget.releasePointerCapture(event.pointerId); from = name; };  // a finger too ends on another
  const release = () => { if (from !== null && from !== name) { const start = from; from = null; held = null; toggle(start, name); } };
  return h("button", { type: "button", class: `node ${role.split(" ")[0]} ${held === name ? "chosen" : ""}`, "data-name": name, "aria-pressed": held === name,
    onpointerdown: press, onpointerup: release, onclick: () => click(name) }, h("strong", {}, name), h("span", { class: "status" }, role));
}

let from = null;
addEventListener("pointerup", () => { from = null; });

function click(name) {
  if (held !== null && held !== name) { const start = held; held = null; return toggle(start, name); }
  held = held === name ? null : name;
  draw();
}

function chosen() {
  const button = (label, act, pressed = null) => h("button", { type: "button", class: "small", "aria-pressed": pressed, onclick: act }, label);
  $("chosen").replaceChildren(...(held === null
    ? [h("span", { class: "hint" }, "Click a variable, then another: an arrow is drawn, or taken away. Or drag from one to the other.")]
    : [h("strong", {}, held), button("treatment", () => choose("treatment", held), held === drawn.treatment), button("outcome", () => choose("outcome", held), held === drawn.outcome),
      button("adjust for it", () => choose("adjusted", held), drawn.adjusted.includes(held)), button("remove", () => remove(held)),
      h("span", { class: "hint" }, "now click its effect")]));
}

function arrows() {
  if (!reply || $("drawing").hidden) return;
  drawArrows($("drawnarrows"), $("drawn"), reply, new Set(), reply.carried ?? []);
}

// The answers ------------------------------------------------------------------------------------

const KINDS = { causal: "carries the effect", biasing: "open: biases the effect", blocked: "blocked" };
const pretty = (text) => text.replaceAll("<->", "↔").replaceAll("->", "→").replaceAll("<-", "←");
const listed = (names) => (names.length ? names.join(", ") : "nothing");

function answers() {
  const parts = reply.sets ? effect() : [h("p", { class: "hint" }, "Choose a treatment and an outcome: click a variable, then one of the buttons above the graph.")];
  $("graphanswers").replaceChildren(...parts, fold(`It implies ${reply.implied.length} ${reply.implied.length === 1 ? "independency" : "independencies"}`, reply.implied), saving());
}

function effect() {
  const { treatment, outcome, adjusted } = drawn;
  const lead = `Adjusting for ${listed(adjusted)} ${reply.valid ? "gives" : "does not give"} the effect of ${treatment} on ${outcome}.`;
  const set = (names) => h("button", { type: "button", class: "small", "aria-pressed": [...adjusted].sort().join() === names.join(), onclick: () => edit({ adjusted: names }) }, listed(names));
  const line = (label, ...what) => h("p", {}, `${label}: `, ...what);
  return [
    h("p", { class: `lead ${reply.valid ? "valid" : "warn"}` }, lead), ...reply.faults.map((fault) => h("p", { class: "note" }, pretty(fault))),
    h("div", { class: "choices" }, "Adjust for:", ...(reply.sets.length ? reply.sets.map(set) : [h("span", {}, "no set of these variables gives it")])),
    ...(reply.front.length ? [line("By the front door", reply.front.map(listed).join("; or "))] : []),
    ...(reply.instruments.length ? [line("Instruments", reply.instruments.join("; "))] : []),
    ...(reply.hidden.length ? [line("Hidden confounders", reply.hidden.map(([a, b]) => `${a} ↔ ${b}`).join(", "))] : []),
    h("ul", { class: "paths" }, ...reply.paths.map(path)),
  ];
}

function path({ text, kind, blocked, edges }) {
  const cause = blocked.length ? `blocked by ${blocked.join(", ")}` : KINDS[kind];
  const light = (on) => () => drawArrows($("drawnarrows"), $("drawn"), reply, new Set(), on ? edges.map((edge) => [...edge, kind]) : reply.carried);
  return h("li", { class: kind, tabindex: "0", onmouseenter: light(true), onmouseleave: light(false), onfocus: light(true), onblur: light(false) },
    h("span", { class: "way" }, pretty(text)), h("small", {}, cause));
}

const fold = (title, lines) => h("details", {}, h("summary", {}, title), h("ul", {}, ...lines.map((text) => h("li", {}, text))));

function saving() {
  const link = (text, name) => h("a", { href: `data:text/plain;charset=utf-8,${encodeURIComponent(text)}`, download: name }, name);
  return h("p", {}, "Save as text of a study: ", link(reply.study, "graph.yaml"), "; for DAGitty: ", link(reply.dagitty, "graph.txt"));
}

