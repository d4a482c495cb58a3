// The page: one state, which is the query and the link; everything else is drawn from answers to it.
import { drawArrows } from "./arrows.js";
import { h, histogram, populations } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const START = { rung: "imagining", row: 0, do: {}, hold: [], particles: 1, seed: 0 };
const state = structuredClone(START);
let schema, latest, lit = [], inferred = {}, swipe = 50;
const WORDS = {
  seeing: { title: "See: what goes with it", act: "observed", verb: "observe" },
  doing: { title: "Do: what if all were set so", act: "set", verb: "set" },
  imagining: { title: "Imagine: what this one would have been", act: "set", verb: "set" },
};

// Asking ------------------------------------------------------------------------------------------

async function ask(what, more = {}) {
  const reply = await fetch(`/api/${what}`, {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query: state, ...more }),
  });
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error ?? `the server answered ${reply.status}`);
  return said;
}

let asking = false, again = false;
async function update(settled = true) {
  // One question at a time, and then the newest: a slider that moves leaves none behind.
  if (asking) { again = again || (settled ? "settled" : "moving"); return; }
  asking = true;
  try {
    latest = await ask("answer");
    say("");
    history.replaceState(null, "", "#" + latest.link);
    await draw();
    document.body.dataset.answers = 1 + Number(document.body.dataset.answers ?? 0);
  } catch (error) { say(error.message); }
  asking = false;
  const next = again;
  again = false;
  if (next) return update(settled || next === "settled");
  if (settled) await details();
}

function say(message) {
  const broken = Object.entries(schema?.broken ?? {}).map(([k, v]) => `${k} could not be opened: ${v}`);
  $("message").textContent = [message, ...broken].filter(Boolean).join(" · ");
  $("message").hidden = !$("message").textContent;
}

// The graph ---------------------------------------------------------------------------------------

function buildNodes() {
  const levels = new Map();
  for (const [name, level] of Object.entries(schema.levels)) levels.set(level, [...(levels.get(level) ?? []), name]);
  const rows = [...levels.keys()].sort((a, b) => a - b);
  $("nodes").replaceChildren(...rows.map((level) => h("div", { class: "level" }, ...levels.get(level).map(buildNode))));
  new ResizeObserver(arrows).observe($("nodes"));
}

function buildNode(name) {
  const variable = schema.variables[name];
  const title = [h("strong", {}, name), h("span", { class: "status" })];
  const head = variable.settable
    ? h("button", { class: "head", type: "button", onclick: () => toggle(name) }, ...title)
    : h("div", { class: "head" }, ...title);
  return h("div", { class: "node", "data-name": name }, head,
    h("div", { class: "value" }), h("div", { class: "control" }), h("p", { class: "note" }));
}

function toggle(name) {
  if (name in state.do) delete state.do[name];
  else {
    const value = latest?.models[0].values[name];
    const variable = schema.variables[name];
    const start = state.rung === "imagining" ? value?.is : value?.was;
    state.do[name] = clamp(variable.labels ? Math.round(start ?? 0) : Number((start ?? variable.low).toPrecision(5)), variable);
    state.hold = state.hold.filter((other) => other !== name);
  }
  lit = [];
  update();
}

const clamp = (value, variable) => Math.min(variable.high, Math.max(variable.low, value));

function drawNodes() {
  const model = latest.models[0];
  for (const node of document.querySelectorAll(".node")) {
    const name = node.dataset.name, status = model.status[name], value = model.values[name];
    const set = name in state.do;
    node.className = `node ${set ? "intervened" : status}`;
    const word = set ? WORDS[state.rung].act : status;
    node.querySelector(".status").textContent =
      (set && state.rung !== "seeing" ? "intervened" : word) + (state.own && inferred[name] ? " · inferred" : "");
    const head = node.querySelector("button.head");
    head?.setAttribute("aria-pressed", set);
    head?.setAttribute("title", set ? `Let ${name} go` : `${WORDS[state.rung].verb} ${name}`);
    const shown = value ? (value.old === value.new ? [value.new] : [h("s", {}, bare(value.old, name)), " → ", value.new])
      : [`${schema.variables[name].width}×${schema.variables[name].height} image`];
    node.querySelector(".value").replaceChildren(...shown);
    control(node, name, set, status);
    const notes = [];
    if (model.outside[name]) notes.push("outside the range of the training data");
    node.querySelector(".note").textContent = notes.join("; ");
    node.querySelector(".note").classList.toggle("warn", notes.length > 0);
  }
  arrows();
}

const bare = (text, name) => { const { unit } = schema.variables[name]; return unit && text.endsWith(` ${unit}`) ? text.slice(0, -unit.length - 1) : text; };

function control(node, name, set, status) {
  const box = node.querySelector(".control"), variable = schema.variables[name];
  const wanted = set ? "set" : status === "held" ? "held" : status === "propagated" && state.rung === "imagining" && variable.settable ? "hold" : "";
  if (box.dataset.kind === wanted) {
    const input = box.querySelector("input,select");
    if (input && input !== document.activeElement) input.value = state.do[name];
    return;
  }
  box.dataset.kind = wanted;
  box.replaceChildren();
  if (wanted === "set") {
    const change = (settled) => (event) => { state.do[name] = Number(event.target.value); lit = []; update(settled); };
    box.append(variable.labels
      ? h("select", { "aria-label": name, onchange: change(true) },
        ...variable.labels.map((label, code) => h("option", { value: code }, label)))
      : h("input", { type: "range", "aria-label": `${name}, ${variable.unit}`, min: variable.low, max: variable.high,
        step: (variable.high - variable.low) / 200, oninput: change(false), onchange: change(true) }));
    box.firstChild.value = state.do[name];
  } else if (wanted) {
    const keep = wanted === "hold";
    box.append(h("button", { type: "button", class: "small", onclick: () => {
      state.hold = keep ? [...state.hold, name] : state.hold.filter((other) => other !== name);
      lit = [];
      update();
    } }, keep ? "hold" : "let it follow"));
  }
}

function arrows() {
  if (!schema) return;
  const cut = state.rung === "seeing" ? [] : [...Object.keys(state.do), ...state.hold];
  drawArrows($("arrows"), $("graph"), schema, new Set(cut), lit);
}

// The pictures ------------------------------------------------------------------------------------

async function draw() {
  drawControls();
  drawNodes();
  const imagining = state.rung === "imagining";
  const box = $("pictures");
  const parts = [];
  for (const model of latest.models) {
    if (latest.models.length > 1) parts.push(h("h2", {}, model.name));
    for (const [name, image] of Object.entries(model.images)) parts.push(...panels(model, name, image, imagining));
    if (!schema.images.length || !imagining) parts.push(table(model, imagining));
  }
  await Promise.all(parts.flatMap((part) => [...part.querySelectorAll("img")]).map((img) => img.decode().catch(() => {})));
  box.replaceChildren(...parts);
  $("question").textContent = question();
}

function panels(model, name, image, imagining) {
  const [one, two] = imagining ? ["as it was", "as it would have been"] : ["population mean", `mean when ${WORDS[state.rung].act}`];
  const variable = schema.variables[name];
  const picture = (source, title, more, ...below) => h("figure", {}, h("img", { src: source, alt: `${name} ${title}` }), ...below,
    h("figcaption", {}, title, h("small", {}, more)));
  const over = h("div", { class: "swipe" }, h("img", { src: image.before, alt: "" }), h("img", { src: image.after, alt: "" }));
  over.style.setProperty("--ratio", variable.width / variable.height);
  const slide = () => { over.lastChild.style.clipPath = `inset(0 0 0 ${swipe}%)`; };
  slide();
  const slider = h("input", { type: "range", min: 0, max: 100, value: swipe, "aria-label": `${name}: swipe between the two`,
    oninput: (event) => { swipe = event.target.value; slide(); } });
  const few = h("div", { class: "panels", "data-model": model.name, "data-image": name },
    picture(image.before, one, ""),
    picture(image.after, two, image.spread && imagining ? "mean of the draws" : ""),
    picture(image.change, "difference", image.moved, ...bar("signed", `−${schema.signed}`, `+${schema.signed}`)),
    h("figure", {}, over, slider, h("figcaption", {}, "swipe", h("small", {}, `left ${one}, right the other`))));
  if (image.spread) few.append(picture(image.spread, "spread", "standard deviation over draws", ...bar("spread", "0", `${schema.spread}`)));
  const draws = image.draws.length
    ? [h("h3", {}, imagining ? "Draws" : "Rows drawn"), h("div", { class: "draws" }, ...image.draws.map((d) => h("img", { src: d, alt: "one draw" })))] : [];
  return [few, ...(draws.length ? [h("div", {}, ...draws)] : [])];
}

const bar = (kind, low, high) => [h("div", { class: `bar ${kind}` }), h("div", { class: "ends" }, h("span", {}, low), h("span", {}, "grey levels"), h("span", {}, high))];

function table(model, imagining) {
  const heads = imagining ? ["variable", "was", "would have been", "status"] : ["variable", "population", WORDS[state.rung].act === "set" ? "when set" : "when observed", "status"];
  const lines = Object.entries(model.values).map(([name, v]) => h("tr", {}, ...[name, v.old, v.new, model.status[name]].map((cell) => h("td", {}, cell))));
  const plots = Object.entries(model.values).filter(([, v]) => v.populations).map(([name, v]) => populations(name, schema.variables[name].unit, v.populations));
  return h("div", {}, h("table", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head))), ...lines), h("div", { class: "plots" }, ...plots));
}

function question() {
  const parts = Object.entries(state.do).map(([name, value]) => {
    const { labels, unit } = schema.variables[name];
    return `${name} = ${labels ? labels[value] : Number(value.toPrecision(4))}${unit ? " " + unit : ""}`;
  });
  const held = state.hold.length ? `; ${state.hold.join(", ")} held` : "";
  if (!parts.length) return `${WORDS[state.rung].title}. Nothing is ${WORDS[state.rung].act} yet.`;
  const of = { seeing: `p( · | ${parts.join(", ")})`, doing: `p( · | do(${parts.join(", ")}))`,
    imagining: `${state.own ? "your image" : `row ${state.row}`} under do(${parts.join(", ")})${held}` }[state.rung];
  return `${WORDS[state.rung].title}: ${of}`;
}

// What is folded below ----------------------------------------------------------------------------

const stale = new Set(["effects", "belief", "film", "code"]);
let version = 0, through = null, swept = null;

async function details() {
  version += 1;
  for (const id of ["effects", "belief", "film", "code"]) stale.add(id);
  for (const id of [...stale]) if ($(id).open) await unfold(id);
  if (schema.world && state.rung === "imagining" && !state.own) await drawTruth();
  document.body.dataset.settled = version;
}

async function unfold(id) {
  stale.delete(id);
  const body = $(id).querySelector(".body");
  try { body.replaceChildren(...await FOLDS[id]()); } catch (error) { body.replaceChildren(h("p", { class: "hint" }, error.message)); }
}

const FOLDS = {
  async effects() {
    const outcome = schema.images[0] ?? Object.keys(schema.levels).reduce((a, b) => (schema.levels[b] >= schema.levels[a] ? b : a));
    const found = await ask("effects", { outcome, through });
    if (!found.mediators.length) return [h("p", { class: "hint" }, `Nothing stands between what is set and ${outcome}.`)];
    const choose = h("label", { class: "field" }, "through ", h("select", { onchange: (event) => { through = event.target.value; unfold("effects"); } },
      ...found.mediators.map((m) => h("option", { value: m, selected: m === found.through ? "" : null }, m))));
    const parts = found.models.flatMap((model) => [h("h3", {}, model.name), h("div", { class: "panels" }, ...["direct", "indirect", "total"].map((part) => {
      const show = () => { lit = model[part].edges; arrows(); };
      return h("figure", {}, model[part].png ? h("img", { src: model[part].png, alt: `${part} effect on ${outcome}` }) : null,
        ...(model[part].png ? bar("signed", `−${schema.signed}`, `+${schema.signed}`) : []),
        h("figcaption", {}, h("button", { type: "button", class: "small", "data-part": part, onclick: show }, `${part}: light its path`), h("small", {}, model[part].said)));
    }))]);
    through = null;
    return [choose, ...parts];
  },
  async belief() {
    const found = await ask("belief");
    return found.models.flatMap((model) => [h("h3", {}, model.name),
      h("table", {}, ...model.checks.map((c) => h("tr", {}, h("th", { scope: "row" }, c.check), h("td", { class: c.good === false ? "warn" : "" }, c.said)))),
      h("div", { class: "plots" }, ...model.densities.map((d) => histogram(d, schema.variables[d.name])))]);
  },
  async film() {
    const names = Object.keys(schema.variables).filter((name) => schema.variables[name].settable);
    swept = names.includes(swept) ? swept : Object.keys(state.do)[0] ?? names[0];
    const choose = h("label", { class: "field" }, "over ", h("select", { onchange: (event) => { swept = event.target.value; unfold("film"); } },
      ...names.map((name) => h("option", { value: name, selected: name === swept ? "" : null }, name))));
    const found = await ask("film", { of: swept });
    const link = (kind, k) => h("a", { href: `/api/strip.${kind}?q=${encodeURIComponent(latest.link)}&of=${encodeURIComponent(swept)}&model=${k}`, download: "" }, kind.toUpperCase());
    return [choose, ...found.models.flatMap((model, k) => [h("h3", {}, model.name),
      ...Object.values(model.images).map((frames) => h("div", { class: "strip", tabindex: "0", role: "group", "aria-label": `${swept} swept` },
        ...frames.map((f, i) => h("figure", {}, h("img", { src: f, alt: `${swept} ${model.labels[i]}` }), h("figcaption", {}, model.labels[i]))))),
      Object.keys(model.numbers).length ? h("table", {}, h("tr", {}, h("th", {}, swept), ...model.labels.map((l) => h("td", {}, l))),
        ...Object.entries(model.numbers).map(([name, values]) => h("tr", {}, h("th", {}, name), ...values.map((v) => h("td", {}, v.toPrecision(4)))))) : null,
      schema.images.length ? h("p", {}, "Save as ", link("png", k), " or ", link("gif", k)) : null])];
  },
  async code() {
    const found = await ask("code");
    const block = (title, text) => [h("h3", {}, title), h("pre", { tabindex: "0" }, text),
      h("button", { type: "button", onclick: (event) => copy(text, event.target) }, `Copy ${title.toLowerCase()}`)];
    return [...block("As Python", found.python), ...block("As command", found.command), ...block("As link", location.href)];
  },
};

async function copy(text, button) {
  await navigator.clipboard.writeText(text);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

async function drawTruth() {
  const asked = latest?.link;
  const found = await ask("truth").catch(() => ({ known: false }));
  if (!latest || !found.known || asked !== latest.link || !Object.keys(state.do).length) return;
  latest.models.forEach((model, k) => {
    for (const name of schema.images) {
      const panel = document.querySelector(`.panels[data-model="${CSS.escape(model.name)}"][data-image="${CSS.escape(name)}"]`);
      panel?.insertBefore(h("figure", { class: "truth" }, h("img", { src: found.images[name], alt: `${name} in truth` }),
        h("figcaption", {}, "in truth", h("small", {}, `the answer is off by ${found.errors[k][name].toPrecision(3)} grey levels`))), panel.children[2]);
    }
  });
  for (const node of document.querySelectorAll(".node.propagated")) {
    const true_ = found.values[node.dataset.name];
    if (true_ !== undefined) node.querySelector(".value").append(h("span", { class: "status" }, ` truth ${bare(true_, node.dataset.name)}`));
  }
}

// The header, the link, an own image --------------------------------------------------------------

function drawControls() {
  for (const input of document.querySelectorAll("[name=rung]")) input.checked = input.value === state.rung;
  const imagining = state.rung === "imagining";
  $("rowfield").hidden = !imagining;
  for (const id of ["row", "particles", "seed"]) if (document.activeElement !== $(id)) $(id).value = state[id];
  $("particles").parentElement.hidden = !imagining;
  $("hint").textContent = `Click a variable to ${WORDS[state.rung].verb} it` + (imagining ? "; what follows from it can be held." : ".");
}

function listen() {
  $("rungs").addEventListener("change", (event) => { state.rung = event.target.value; if (state.rung !== "imagining") state.hold = []; lit = []; update(); });
  for (const id of ["row", "particles", "seed"]) $(id).addEventListener("change", (event) => {
    if (event.target.value === "") return;
    state[id] = Number(event.target.value);
    if (id === "row") delete state.own;
    update();
  });
  const step = (by) => () => { delete state.own; state.row = (state.row + by + schema.rows) % schema.rows; update(); };
  $("previous").addEventListener("click", step(-1));
  $("next").addEventListener("click", step(1));
  $("reset").addEventListener("click", () => { restore({}); lit = []; update(); });
  for (const id of Object.keys(FOLDS)) $(id).addEventListener("toggle", () => { if ($(id).open && stale.has(id)) unfold(id); });
  addEventListener("hashchange", () => { if (location.hash.slice(1) !== latest?.link) { read(); update(); } });
  drawing();
}

function restore(given) {
  for (const key of Object.keys(state)) delete state[key];
  Object.assign(state, structuredClone(START), given);
}

function read() {
  if (location.hash.length < 2) return restore({});
  try { restore(JSON.parse(decodeURIComponent(location.hash.slice(1)))); } catch { say("this link cannot be read"); restore({}); }
}

function drawing() {
  $("own").hidden = !schema.own;
  if (!schema.own) return;
  const { width, height, channels } = schema.variables[schema.images[0]];
  $("wanted").textContent = `${width}×${height} pixels, ${channels === 3 ? "in colour" : "in shades of grey"}, PNG or JPEG.`;
  const canvas = $("canvas"), pen = canvas.getContext("2d");
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height]; };
  Object.assign(pen, { lineWidth: 22, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  const wipe = () => { pen.fillStyle = "#000"; pen.fillRect(0, 0, canvas.width, canvas.height); };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pen.beginPath(); pen.moveTo(...at(event)); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) { pen.lineTo(...at(event)); pen.stroke(); } });
  $("wipe").addEventListener("click", wipe);
  $("own").addEventListener("click", () => { wipe(); $("refused").hidden = true; $("file").value = ""; $("upload").showModal(); });
  $("file").addEventListener("change", async (event) => { if (event.target.files[0]) await adopt(event.target.files[0]); });
  $("take").addEventListener("click", () => {
    const small = new OffscreenCanvas(width, height), brush = small.getContext("2d");
    brush.imageSmoothingQuality = "high";
    brush.drawImage(canvas, 0, 0, width, height);
    small.convertToBlob({ type: "image/png" }).then(adopt);
  });
}

async function adopt(blob) {
  try {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    const found = await ask("own", { content: btoa(text) });
    inferred = Object.fromEntries(found.inferred.map((name) => [name, true]));
    Object.assign(state, { own: found.own, rung: "imagining", do: {}, hold: [] });
    $("upload").close();
    update();
  } catch (error) { $("refused").textContent = error.message; $("refused").hidden = false; }
}

schema = await (await fetch("/api/schema")).json();
$("models").textContent = schema.models.join(" · ");
$("row").max = schema.rows - 1;
say("");
read();
buildNodes();
listen();
await update();
