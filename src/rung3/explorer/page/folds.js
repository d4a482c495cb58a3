// What is folded below the graph: effects by their paths, checks, a sweep, and code to take away.
import { AMONG, among, bar, course, h, plots } from "./drawing.js";
import { arrows } from "./graph.js";
import { $, ask, bare, page, shown, state } from "./state.js";

const stale = new Set(["effects", "belief", "film", "code"]);
let through = null, outcome = null, swept = null;

export function listen() {
  for (const id of Object.keys(FOLDS)) $(id).addEventListener("toggle", () => { if ($(id).open && stale.has(id)) unfold(id); });
}

export async function refresh() {
  for (const id of Object.keys(FOLDS)) stale.add(id);
  for (const id of Object.keys(FOLDS)) if ($(id).open && stale.has(id)) await unfold(id);
}

async function unfold(id) {
  stale.delete(id);
  const { latest } = page, body = $(id).querySelector(".body");
  body.setAttribute("aria-busy", "true");
  const parts = await FOLDS[id]().catch((error) => [h("p", { class: "hint" }, error.message)]);
  if (latest !== page.latest) return;  // a newer answer is there: its own will follow
  body.setAttribute("aria-busy", "false");
  body.replaceChildren(...parts);
}

const choice = (label, names, chosen, then) => h("label", { class: "field" }, `${label} `, h("select", { onchange: (event) => then(event.target.value) },
  ...names.map((name) => h("option", { value: name, selected: name === chosen ? "" : null }, name))));

const FOLDS = {
  async effects() {
    if (state.rung !== "imagining" || !Object.keys(state.do).length) throw new Error("Effects are of one row that is imagined anew: choose 'Imagine' and set a variable.");
    const status = page.latest.models[state.shown].status, { levels } = shown();
    const follow = Object.keys(levels).filter((name) => status[name] === "propagated" && page.schema.variables[name].kind !== "categorical").sort((a, b) => levels[b] - levels[a]);
    if (!follow.length) throw new Error("Nothing that has differences follows from what is set.");
    if (!follow.includes(outcome)) outcome = follow.find((name) => page.schema.images.includes(name)) ?? follow[0];
    const found = await ask("effects", { outcome, through });
    const choices = h("div", { class: "choices" }, choice("effect on", follow, outcome, (name) => { outcome = name; through = null; unfold("effects"); }),
      found.mediators.length ? choice("through", found.mediators, found.through, (name) => { through = name; unfold("effects"); }) : null);
    if (!found.mediators.length) return [choices, h("p", { class: "hint" }, `Nothing stands between what is set and ${outcome}: all of the effect is direct.`)];
    const several = found.models.length > 1;
    return [choices, ...found.models.flatMap((model, k) => [several ? h("h3", {}, model.name) : null,
      model.lacks ? h("p", { class: "hint" }, model.lacks) : h("div", { class: inColour() ? "panels broad" : "panels" }, ...["direct", "indirect", "total"].map((part) => effect(model, part, k)))].filter(Boolean))];
  },

  async belief() {
    if (state.rung !== "imagining" || !Object.keys(state.do).length) throw new Error("The checks are of one row that is imagined anew: choose 'Imagine' and set a variable.");
    const found = await ask("belief");
    return found.models.flatMap((model) => [found.models.length > 1 ? h("h3", {}, model.name) : null,
      h("div", { class: "scroll" }, h("table", {}, ...model.checks.map((c) => h("tr", {}, h("th", { scope: "row" }, c.check), h("td", { class: c.good === false ? "warn" : "" }, c.said))))),
      plots(`${AMONG}${model.densities[0]?.trained ? "rows of training" : "rows held out"}`, model.densities.map(density))].filter(Boolean));
  },

  async film() {
    if (state.rung !== "imagining") throw new Error("A sweep is of one row that is imagined anew: choose 'Imagine'.");
    const names = Object.keys(page.schema.variables).filter((name) => page.schema.variables[name].settable && !state.hold.includes(name));
    swept = names.includes(swept) ? swept : Object.keys(state.do)[0] ?? names[0];
    const choose = choice("over", names, swept, (name) => { swept = name; unfold("film"); });
    const found = await ask("film", { of: swept });
    return [choose, ...found.models.flatMap((model, k) => [found.models.length > 1 ? h("h3", {}, model.name) : null, ...strips(model), numbers(model), ...courses(model),
      ...(page.schema.images.length ? [h("p", {}, "Save as ", saved("png", k), " or ", saved("gif", k))] : [])].filter(Boolean))];
  },

  async code() {
    const found = await ask("code");
    const block = (title, text) => [h("h3", {}, title), h("pre", { tabindex: "0" }, text),
      h("button", { type: "button", onclick: (event) => copy(text, event.target) }, `Copy ${title.toLowerCase()}`)];
    return [...block("As Python", found.python), ...block("As command", found.command), ...block("As link", location.href)];
  },
};

function effect(model, part, k) {
  const { png, said, edges } = model[part];
  const light = (event) => {
    for (const other of document.querySelectorAll("[data-part]")) other.setAttribute("aria-pressed", other === event.target);
    page.lit = edges;
    arrows();
  };
  return h("figure", {}, png ? h("img", { src: png, alt: `${part} effect on ${outcome}` }) : h("strong", {}, said),
    ...(png ? bar("signed", `−${page.schema.signed}`, `+${page.schema.signed}`) : []),
    h("figcaption", {}, h("button", { type: "button", class: "small", "data-part": part, "data-of": k, "aria-pressed": "false", onclick: light }, `${part}: light its path`),
      png ? h("small", {}, inColour() ? `red, green and blue; ${said}` : said) : null));
}

const inColour = () => page.schema.variables[outcome].channels === 3;

function density(found) {
  const { labels } = page.schema.variables[found.name], { edges, counts, was, is } = { ...found, was: found.old, is: found.new };
  const bins = labels ? [...edges.map((code) => code - 0.5), edges.length - 0.5] : edges;
  return among(found.name, page.schema.variables[found.name], { edges: bins, counts }, was, is, found.outside ? "outside the range of training" : "");
}

const saved = (kind, k) => h("a", { href: `/api/strip.${kind}?q=${encodeURIComponent(page.latest.link)}&of=${encodeURIComponent(swept)}&model=${k}`, download: "" }, kind.toUpperCase());

const strips = (model) => Object.values(model.images).map((frames) => h("div", { class: "strip", tabindex: "0", role: "group", "aria-label": `${swept} swept` },
  ...frames.map((f, i) => h("figure", {}, h("img", { src: f, alt: `${swept} ${model.labels[i]}` }), h("figcaption", {}, model.labels[i])))));

function numbers(model) {
  if (!Object.keys(model.words).length) return null;
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Values that follow" }, h("table", {}, h("tr", {}, h("th", {}, swept), ...model.labels.map((l) => h("td", {}, l))),
    ...Object.entries(model.words).map(([name, words]) => h("tr", {}, h("th", {}, name), ...words.map((word) => h("td", {}, bare(word, name)))))));
}

function courses(model) {
  const found = page.schema.images.length ? [] : Object.entries(model.numbers);
  return [plots(`how each goes with ${swept}, from ${model.labels[0]} to ${model.labels.at(-1)}`, found.map(([name, ys]) => course(name, page.schema.variables[name], model.values, ys)))];
}

async function copy(text, button) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // browsers keep the clipboard from pages of other hosts
    getSelection().selectAllChildren(button.previousElementSibling);
    button.textContent = "Selected: copy it by hand";
  }
  setTimeout(() => { button.textContent = said; }, 1500);
}
