// The graph, whose nodes are the controls: each shows its status, and its old and new value.
import { drawArrows } from "./arrows.js";
import { h } from "./drawing.js";
import { $, WORDS, aboutRow, bare, change, page, shown, state } from "./state.js";

const MEANINGS = {
  observed: { seeing: "has the observed value", imagining: "as it was: no cause of it was set", backtracking: "as it was: nothing that leads to it moved" },
  antecedent: { backtracking: "what is asked for; no arrow is cut" },
  moved: { backtracking: "its noise moved, to lead to what is asked for" },
  intervened: { doing: "set; the arrows into it are cut", imagining: "set; the arrows into it are cut" },
  propagated: { doing: "follows from what is set", imagining: "follows from what is set", backtracking: "follows from what moved" },
  held: { imagining: "would follow, but is kept as it was", backtracking: "a category or count above: kept as it was" },
  sampled: { seeing: "drawn given what is observed", doing: "drawn as in the population" },
};
const CHOSEN = { seeing: "observed", doing: "intervened", imagining: "intervened", backtracking: "antecedent" };
let built = null;

export function buildNodes() {
  if (built === shown()) return;
  built = shown();
  const levels = new Map();
  for (const [name, level] of Object.entries(built.levels)) levels.set(level, [...(levels.get(level) ?? []), name]);
  const rows = [...levels.keys()].sort((a, b) => a - b);
  $("nodes").replaceChildren(...rows.map((level) => h("div", { class: "level" }, ...levels.get(level).map(buildNode))));
}

export function watch() { new ResizeObserver(arrows).observe($("nodes")); }

function buildNode(name) {
  const { settable } = page.schema.variables[name];
  const title = [h("strong", {}, name), h("span", { class: "status" })];
  const head = settable
    ? h("button", { class: "head", type: "button", onclick: () => toggle(name) }, ...title)
    : h("div", { class: "head" }, ...title);
  return h("div", { class: "node", "data-name": name }, head,
    h("div", { class: "value" }), h("div", { class: "control" }), h("p", { class: "note" }));
}

function toggle(name) {
  const others = { ...state.do };
  if (name in others) delete others[name];
  else {
    const value = page.stale ? undefined : page.latest?.models[state.shown]?.values[name];
    const variable = page.schema.variables[name];
    const other = { 0: 1, 1: 0 }[variable.labels?.length === 2 ? value?.was : ""];
    const start = other ?? (aboutRow() ? value?.is : value?.was) ?? variable.low;
    others[name] = clamp(variable.labels ? Math.round(start) : Number(start.toPrecision(5)), variable);
  }
  change({ do: others, hold: state.hold.filter((other) => other !== name) });
}

const clamp = (value, variable) => Math.min(variable.high, Math.max(variable.low, value));

export function drawNodes() {
  buildNodes();
  // Without an answer, the previous values may belong to another row.
  const latest = page.stale ? null : page.latest;
  const model = latest?.models[state.shown] ?? latest?.models[0];
  for (const node of document.querySelectorAll(".node")) {
    const name = node.dataset.name, set = name in state.do, value = model?.values[name];
    const status = set ? CHOSEN[state.rung] : model?.status[name] || "";
    node.className = `node ${status} ${set ? "chosen" : ""}`;
    const inferred = latest?.inferred.includes(name) ? " · inferred" : "";
    node.querySelector(".status").textContent = status + inferred;
    const head = node.querySelector("button.head");
    head?.setAttribute("aria-pressed", set);
    head?.setAttribute("title", set ? `Release ${name}` : `${WORDS[state.rung].verb} ${name}`);
    const words = value ? (value.old === value.new ? [value.new] : [h("s", {}, bare(value.old, name)), " → ", value.new]) : [kindOf(name)];
    node.querySelector(".value").replaceChildren(...words);
    control(node, name, set, status);
    const note = node.querySelector(".note"), outside = model?.outside[name] ? "outside the range of the training data" : "";
    note.textContent = [outside, model?.moved?.notes[name]].filter(Boolean).join("; ");
    note.classList.toggle("warn", outside !== "");
  }
  legend();
  arrows();
}

function kindOf(name) {
  const { kind, width, height, channels, volume, sizes } = page.schema.variables[name];
  if (volume) return `${sizes.join("×")} volume`;
  return width ? `${width}×${height} image${channels === 3 ? " in colour" : ""}` : kind;
}

function legend() {
  const entries = Object.entries(MEANINGS).filter(([, means]) => means[state.rung]);
  $("legend").replaceChildren(...entries.map(([status, means]) => h("li", {}, h("span", { class: `swatch ${status}` }), h("b", {}, status), ` ${means[state.rung]}`)));
}

function control(node, name, set, status) {
  const box = node.querySelector(".control"), variable = page.schema.variables[name];
  const can = status === "propagated" && state.rung === "imagining" && variable.settable;
  const wanted = set ? "set" : status === "held" ? "held" : can ? "hold" : "";
  if (box.dataset.kind !== wanted) {
    box.dataset.kind = wanted;
    box.replaceChildren(...(wanted === "set" ? setters(name, variable) : wanted ? [keeper(name, wanted === "hold")] : []));
  }
  for (const input of box.querySelectorAll("input,select")) if (set && input !== document.activeElement) input.value = state.do[name];
}

function setters(name, variable) {
  const to = (settled) => (event) => {
    if (event.target.value === "") return;
    const value = Number(event.target.value);
    state.do[name] = event.target.type === "range" ? clamp(Number(value.toPrecision(4)), variable) : value;
    page.lit = [];
    page.update(settled);
  };
  if (variable.labels) return [h("select", { "aria-label": name, onchange: to(true) }, ...variable.labels.map((label, code) => h("option", { value: code }, label)))];
  const step = round((variable.high - variable.low) / 200);
  return [
    h("input", { type: "range", "aria-label": `${name}, ${variable.unit}`, min: Math.ceil(variable.low / step) * step, max: Math.floor(variable.high / step) * step, step, oninput: to(false), onchange: to(true) }),
    h("input", { type: "number", "aria-label": `${name} as a number, ${variable.unit}`, step: "any", onchange: to(true) }),
  ];
}

const round = (step) => { const unit = 10 ** Math.floor(Math.log10(step)); return [1, 2, 5, 10].find((times) => times * unit >= step) * unit; };

const keeper = (name, keep) => h("button", { type: "button", class: "small",
  onclick: () => change({ hold: keep ? [...state.hold, name] : state.hold.filter((other) => other !== name) }) }, keep ? "hold" : "release");

export function arrows() {
  if (!page.schema || !built) return;
  const cut = state.rung === "seeing" || state.rung === "backtracking" ? [] : [...Object.keys(state.do), ...state.hold];
  drawArrows($("arrows"), $("graph"), built, new Set(cut), page.lit);
}
