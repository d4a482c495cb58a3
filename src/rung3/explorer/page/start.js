// Where to begin and how to go back: the verdict, examples, a surprise, and undo.
import { h } from "./drawing.js";
import { $, change, page, restore, state } from "./state.js";

const past = [];  // settled queries, the present one last
const MOST = 100;

export function listen() {
  const { schema } = page;
  schema.verdicts.forEach((verdict, k) => { if (verdict) show(verdict, schema.models.length > 1 ? schema.models[k] : ""); });
  $("examples").prepend(...schema.examples.map(({ title, query }) => h("button", { type: "button", class: "small", onclick: () => begin(query) }, title)));
  $("words").lastChild.append(...Object.entries(schema.words).flatMap(([term, text]) => [h("dt", {}, term), h("dd", {}, text)]));
  $("surprise").hidden = !schema.causes.length;
  $("surprise").addEventListener("click", surprise);
  $("undo").addEventListener("click", undo);
}

export function remember() {
  const now = JSON.stringify(state);
  if (past.at(-1) !== now) past.push(now);
  if (past.length > MOST) past.shift();
  $("undo").disabled = past.length < 2;
}

function undo() {
  past.pop();
  restore(JSON.parse(past.at(-1)));
  change({});
}

function begin(query) {
  restore({ particles: state.particles, seed: state.seed, shown: state.shown, ...query });
  change({});
}

function surprise() {
  const any = (list) => list[Math.floor(Math.random() * list.length)];
  const name = any(page.schema.causes), { low, high, labels } = page.schema.variables[name];
  const value = labels ? any([...labels.keys()]) : Number((low + Math.random() * (high - low)).toPrecision(3));
  begin({ row: Math.floor(Math.random() * page.schema.rows), do: { [name]: value } });
}

function show({ headline, findings }, name) {
  const [summary, body] = $("verdict").children;
  $("verdict").hidden = false;
  const signs = findings.map(({ mark, sign }) => h("b", { class: mark, title: mark }, ` ${sign}`));
  summary.append(h("span", {}, `${name ? `${name}: ` : "The model "}${headline}`, ...signs, " "));
  body.append(...(name ? [h("h3", {}, name)] : []), ...findings.map(({ mark, sign, text, next }) => h("p", {}, h("b", { class: mark }, `${sign} `), text, next ? h("code", {}, next) : null)));
}
