// The folded parts below the graph: effects and their paths, checks, a sweep, and code to copy.
import { AMONG, among, bar, course, h, plots } from "./drawing.js";
import { arrows } from "./graph.js";
import { $, aboutRow, ask, bare, change, page, shown, state } from "./state.js";

const stale = new Set(["explain", "effects", "checks", "sweep", "code"]);
let through = null, outcome = null, swept = null, alarmed = false;

export function listen() {
  for (const id of Object.keys(FOLDS)) $(id).addEventListener("toggle", () => { if ($(id).open && stale.has(id)) unfold(id); });
  $("explain").hidden = !page.schema.predictor;
  $("explain").firstChild.textContent = `Why does ${page.schema.predictor} say so?`;
  $("trust").addEventListener("click", () => { $("checks").open = true; $("checks").scrollIntoView({ behavior: "smooth" }); });
}

export async function refresh() {
  for (const id of Object.keys(FOLDS)) stale.add(id);
  await summarise();
  for (const id of Object.keys(FOLDS)) if ($(id).open && stale.has(id)) await unfold(id);
}

// Say in one line whether the answer can be believed, and open the checks when one begins to warn.
async function summarise() {
  const { latest } = page, asked = aboutRow() && Object.keys(state.do).length > 0;
  const reply = asked ? await ask("trust").catch(() => ({ models: [] })) : { models: [] };
  if (latest !== page.latest) return;
  const warnings = reply.models.flatMap(({ name, warnings: texts }) => texts.map((text) => (reply.models.length > 1 ? `${name}: ${text}` : text)));
  const passed = reply.models.reduce((sum, model) => sum + model.passed, 0);
  const rest = warnings.length > 1 ? `; and ${warnings.length - 1} more` : "";
  $("trust").textContent = warnings.length ? `${warnings[0]}${rest}` : passed ? `✓ ${passed} of ${passed} checks passed` : "";
  $("trust").className = warnings.length ? "warn" : "";
  $("trust").hidden = !$("trust").textContent;
  if (warnings.length && !alarmed) $("checks").open = true;
  else if (!warnings.length && alarmed) $("checks").open = false;
  alarmed = warnings.length > 0;
}

async function unfold(id) {
  stale.delete(id);
  const { latest } = page, body = $(id).querySelector(".body");
  body.setAttribute("aria-busy", "true");
  const parts = await FOLDS[id]().catch((error) => [h("p", { class: "hint" }, error.message)]);
  if (latest !== page.latest) return;  // a newer answer is there, and its parts will follow
  body.setAttribute("aria-busy", "false");
  body.replaceChildren(...parts);
}

const choice = (label, names, chosen, then) => h("label", { class: "field" }, `${label} `, h("select", { onchange: (event) => then(event.target.value) },
  ...names.map((name) => h("option", { value: name, selected: name === chosen ? "" : null }, name))));

const FOLDS = {
  async explain() {
    if (!aboutRow()) throw new Error("An explanation needs one row: choose 'Imagine'.");
    const reply = await ask("explain");
    return reply.models.flatMap((model) => [reply.models.length > 1 ? h("h3", {}, model.name) : null,
      h("p", { class: "note" }, "by how much its output would change under each intervention, with all that follows; click one to see it"), reasons(model), causes(model),
      model.decides ? h("p", {}, "The decision flips with ", model.flip ? tried(model.flip.text, model.flip.do) : "nothing within usual values", ".") : null,
      model.command ? h("pre", { tabindex: "0" }, model.command) : null].filter(Boolean));
  },

  async effects() {
    if (state.rung !== "imagining" || !Object.keys(state.do).length) throw new Error("Effects need one row: choose 'Imagine' and set a variable.");
    const status = page.latest.models[state.shown].status, { levels } = shown();
    const follow = Object.keys(levels).filter((name) => status[name] === "propagated" && page.schema.variables[name].kind !== "categorical").sort((a, b) => levels[b] - levels[a]);
    if (!follow.length) throw new Error("Only categories follow from what is set: they have no effects to subtract.");
    if (!follow.includes(outcome)) outcome = follow.find((name) => page.schema.images.includes(name)) ?? follow[0];
    const reply = await ask("effects", { outcome, through });
    const choices = h("div", { class: "choices" }, choice("effect on", follow, outcome, (name) => { outcome = name; through = null; unfold("effects"); }),
      reply.mediators.length ? choice("through", reply.mediators, reply.through, (name) => { through = name; unfold("effects"); }) : null);
    if (!reply.mediators.length) return [choices, h("p", { class: "hint" }, `No mediator lies between what is set and ${outcome}: all of the effect is direct.`)];
    const several = reply.models.length > 1;
    return [choices, ...reply.models.flatMap((model, k) => [several ? h("h3", {}, model.name) : null,
      model.none ? h("p", { class: "hint" }, model.none) : h("div", { class: inColour() ? "panels broad" : "panels" }, ...["direct", "indirect", "total"].map((part) => effect(model, part, k)))].filter(Boolean))];
  },

  async checks() {
    if (!aboutRow() || !Object.keys(state.do).length) throw new Error("The checks need one row: choose 'Imagine' or 'Backtrack', and set a variable.");
    const reply = await ask("checks");
    return reply.models.flatMap((model) => [reply.models.length > 1 ? h("h3", {}, model.name) : null,
      h("div", { class: "scroll" }, h("table", {}, ...model.checks.map((c) => h("tr", {}, h("th", { scope: "row" }, c.name), h("td", { class: c.good === false ? "warn" : "" }, c.text))))),
      plots(`${AMONG}${model.densities[0]?.trained ? "training rows" : "held-out rows"}`, model.densities.map(density))].filter(Boolean));
  },

  async sweep() {
    if (state.rung !== "imagining") throw new Error("A sweep needs one row: choose 'Imagine'.");
    const names = Object.keys(page.schema.variables).filter((name) => page.schema.variables[name].settable && !state.hold.includes(name));
    swept = names.includes(swept) ? swept : Object.keys(state.do)[0] ?? names[0];
    const choose = choice("over", names, swept, (name) => { swept = name; unfold("sweep"); });
    const reply = await ask("sweep", { name: swept });
    return [choose, ...reply.models.flatMap((model, k) => [reply.models.length > 1 ? h("h3", {}, model.name) : null, ...strips(model), numbers(model), ...courses(model),
      ...(page.schema.images.length ? [h("p", {}, "Save as ", saved("png", k), " or ", saved("gif", k))] : [])].filter(Boolean))];
  },

  async code() {
    const reply = await ask("code");
    const block = (title, text) => [h("h3", {}, title), h("pre", { tabindex: "0" }, text),
      h("button", { type: "button", onclick: (event) => copy(text, event.target) }, `Copy ${title.toLowerCase()}`)];
    return [...block("As Python", reply.python), ...block("As command", reply.command), ...block("As link", location.href)];
  },
};

// An intervention as a button that sets it on the page.
const tried = (label, values) => h("button", { type: "button", class: "small", onclick: () => change({ rung: "imagining", hold: [], do: { ...values } }) }, label);

function reasons({ effects }) {
  const most = Math.max(...effects.flatMap(({ total, ends, parts }) => [total, ...ends, ...parts.map(([, part]) => part)].map(Math.abs)), 1e-9);
  const line = (label, value, kind, ends = "") => h("tr", {}, h("th", { scope: "row" }, label), h("td", {}, signed(value)), h("td", { class: "range" }, extent(value, most, kind)), h("td", {}, ends));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Effects on the predictor" }, h("table", { class: "reasons" }, ...effects.flatMap(({ label, do: values, total, ends, parts }) => [
    line(tried(label, values), total, "whole", ends[0] === ends[1] ? "" : ends.map(signed).join(" to ")),
    ...parts.map(([name, part]) => line(name === "direct" ? "directly" : `through ${name}`, part, "part"))])));
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(3)}`;

// A bar from zero in the middle to a value, of the length that the greatest one leaves.
function extent(value, most, kind) {
  const width = 50 * Math.abs(value) / most, bar = h("span", { class: `extent ${kind}` });
  bar.style.left = `${value < 0 ? 50 - width : 50}%`;
  bar.style.width = `${width}%`;
  return bar;
}

function causes({ causes: list }) {
  if (!list.length) return null;
  return h("div", { class: "scroll" }, h("table", {}, h("tr", {}, ...["cause", "necessary", "sufficient"].map((head) => h("th", { scope: "col" }, head))),
    ...list.map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell))))),
  h("p", { class: "note" }, "necessary: how often the decision falls with another value of the cause; sufficient: how often the row's value brings the decision to rows without it"));
}

function effect(model, part, k) {
  const { png, text, edges } = model[part];
  const light = (event) => {
    for (const other of document.querySelectorAll("[data-part]")) other.setAttribute("aria-pressed", other === event.target);
    page.lit = edges;
    arrows();
  };
  return h("figure", {}, png ? h("img", { src: png, alt: `${part} effect on ${outcome}` }) : h("strong", {}, text),
    ...(png ? bar("signed", `−${page.schema.signed}`, `+${page.schema.signed}`) : []),
    h("figcaption", {}, h("button", { type: "button", class: "small", "data-part": part, "data-of": k, "aria-pressed": "false", onclick: light }, `${part}: highlight its path`),
      png ? h("small", {}, inColour() ? `red, green and blue; ${text}` : text) : null));
}

const inColour = () => page.schema.variables[outcome].channels === 3;

function density(histogram) {
  const { labels } = page.schema.variables[histogram.name], { edges, counts, old, new: now } = histogram;
  const bins = labels ? [...edges.map((code) => code - 0.5), edges.length - 0.5] : edges;
  return among(histogram.name, page.schema.variables[histogram.name], { edges: bins, counts }, old, now, histogram.outside ? "outside the training range" : "");
}

const saved = (kind, k) => h("a", { href: `/api/strip.${kind}?q=${encodeURIComponent(page.latest.link)}&name=${encodeURIComponent(swept)}&model=${k}`, download: "" }, kind.toUpperCase());

const strips = (model) => Object.entries(model.images).map(([name, frames]) => h("div", { class: page.schema.variables[name].volume ? "strip slices" : "strip", tabindex: "0", role: "group", "aria-label": `${swept} swept` },
  ...frames.map((f, i) => h("figure", {}, h("img", { src: f, alt: `${swept} ${model.labels[i]}` }), h("figcaption", {}, model.labels[i])))));

function numbers(model) {
  if (!Object.keys(model.texts).length) return null;
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Values that follow" }, h("table", {}, h("tr", {}, h("th", {}, swept), ...model.labels.map((l) => h("td", {}, l))),
    ...Object.entries(model.texts).map(([name, texts]) => h("tr", {}, h("th", {}, name), ...texts.map((text) => h("td", {}, bare(text, name)))))));
}

function courses(model) {
  const plotted = page.schema.images.length ? [] : Object.entries(model.numbers);
  return [plots(`how each varies with ${swept}, from ${model.labels[0]} to ${model.labels.at(-1)}`, plotted.map(([name, ys]) => course(name, page.schema.variables[name], model.values, ys)))];
}

async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // browsers give pages of other hosts no clipboard
    getSelection().selectAllChildren(button.previousElementSibling);
    button.textContent = "Selected: copy it from here";
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}
