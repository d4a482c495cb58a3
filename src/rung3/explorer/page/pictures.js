// The answer: images of each model, or values and plots where there are none; and the truth.
import { AMONG, among, bar, h, plots, populations } from "./drawing.js";
import { $, WORDS, aboutRow, ask, bare, page, state } from "./state.js";

const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
let swipe = 50;

export async function drawPictures() {
  const { models } = page.latest, single = aboutRow();
  const sections = models.map((model, k) => {
    const images = Object.entries(model.images);
    const title = models.length > 1 ? [h("h2", {}, model.name)] : [];
    const note = models.length > 1 && single && images.length ? [h("p", { class: "note", "data-changed": k }, changed(model))] : [];
    const says = model.says ? [h("p", { class: "says" }, model.says)] : [];
    return h("section", { class: "model", "aria-label": model.name }, ...title, ...note, ...says, ...effective(model),
      ...images.flatMap(([name, image]) => panels(model, k, name, image, single)), ...(images.length && single ? [] : [table(model, single)]));
  });
  await Promise.all(sections.flatMap((part) => [...part.querySelectorAll("img")]).map((img) => img.decode().catch(() => {})));
  $("pictures").replaceChildren(...sections);
  $("pictures").classList.remove("stale");
  $("question").textContent = question();
}

const changed = (model) => Object.entries(model.values).filter(([, v]) => v.old !== v.new).map(([name, v]) => `${name} ${bare(v.old, name)} → ${v.new}`).join(" · ") || "nothing changes";

function effective(model) {
  if (!model.effective) return [];
  const low = model.effective < page.schema.trusted;
  return [h("p", { class: low ? "note warn" : "note" }, `effective sample size ${Math.round(model.effective)}${low ? ": too few rows are like this to trust the answer" : ""}`)];
}

// A picture as large as the window; that of the swipe with its slider.
function enlarge(shown, caption, ratio, ...below) {
  const dialog = $("large"), close = () => dialog.close();
  shown.style.setProperty("--ratio", ratio);
  shown.addEventListener("click", close);
  dialog.replaceChildren(shown, ...below, h("p", { class: "hint" }, caption, " ", shown.src ? h("a", { href: shown.src, download: `${caption}.png` }, "save") : "", " ",
    h("button", { type: "button", class: "small", onclick: close }, "Close")));
  dialog.showModal();
}

function swiper(name, image) {
  const over = h("div", { class: "swipe" }, h("img", { src: image.before, alt: "" }), h("img", { src: image.after, alt: "" }));
  const slide = () => { over.lastChild.style.clipPath = `inset(0 0 0 ${swipe}%)`; };
  slide();
  const slider = h("input", { type: "range", min: 0, max: 100, value: swipe, "aria-label": `${name}: swipe between the two`,
    oninput: (event) => { swipe = event.target.value; slide(); } });
  return [over, slider];
}

function panels(model, k, name, image, single) {
  const [one, two] = single ? ["as it was", "as it would have been"] : ["population mean", `mean when ${WORDS[state.rung].act}`];
  const { width, height, channels, volume } = page.schema.variables[name];
  const picture = (source, title, more, ...below) => h("figure", {}, h("img", { src: source, alt: `${name} ${title}`, title: "Click for full size",
    onclick: () => enlarge(h("img", { src: source, alt: `${name} ${title}` }), `${name} ${title}`, width / height) }), ...below, h("figcaption", {}, title, h("small", {}, more)));
  const [over, slider] = swiper(name, image), sides = `left: ${one}; right: ${two}`;
  const full = () => { const [large, below] = swiper(name, image); enlarge(large, sides, width / height, below); };
  over.addEventListener("click", full);
  const colours = channels === 3 ? "red, green and blue; " : channels > 1 ? "channel by channel; " : "";
  const difference = picture(image.change, "difference", colours + image.moved, ...bar("signed", `−${page.schema.signed}`, `+${page.schema.signed}`));
  if (colours) difference.className = "wide";
  const row = h("div", { class: volume ? "panels slices" : "panels", "data-model": k, "data-image": name },
    picture(image.before, one, ""),
    picture(image.after, two, [image.intervened ? "mechanisms stay, noise moves" : "", image.spread && single ? "mean of the draws" : ""].filter(Boolean).join("; ")),
    image.intervened ? picture(image.intervened, "by intervention", "noise stays, arrows are cut") : null,
    awaited() ? h("figure", { class: "truth waiting" }, h("img", { src: BLANK, alt: "" }), h("figcaption", {}, "truth", h("small", {}, "…"))) : null,
    difference,
    h("figure", {}, over, slider, h("figcaption", {}, h("button", { type: "button", class: "small", onclick: full }, "swipe in full size"), h("small", {}, sides))));
  row.style.setProperty("--ratio", width / height);
  if (image.spread) row.append(picture(image.spread, "spread", "standard deviation over draws", ...bar("spread", "0", `${page.schema.spread}`)));
  if (!image.draws.length) return [row];
  return [row, h("div", {}, h("h3", {}, single ? "Draws" : "Rows drawn"), h("div", { class: "draws" }, ...image.draws.map((d) => h("img", { src: d, alt: "one draw" }))))];
}

function table(model, single) {
  const doing = state.rung === "doing", beside = state.rung === "backtracking" && Object.values(model.values).some((v) => v.intervened);
  const heads = single ? ["was", "would have been", ...(beside ? ["by intervention"] : [])] : ["population", `when ${WORDS[state.rung].act}`, ...(doing ? ["difference"] : [])];
  const cells = (name, v) => [name, v.old, v.new, ...(beside ? [v.intervened] : []), ...(doing ? [model.status[name] === "sampled" ? "0" : v.difference ?? ""] : []), model.status[name]];
  const lines = Object.entries(model.values).map(([name, v]) => h("tr", {}, ...cells(name, v).map((cell) => h("td", {}, cell))));
  const drawn = Object.entries(model.values).map(([name, v]) => {
    const variable = page.schema.variables[name];
    return v.populations ? populations(name, variable, v.populations) : v.among && v.was !== null ? among(name, variable, v.among, v.was, v.is, "") : null;
  });
  const note = single ? `${AMONG}the rows of this page` : "bars: the population as it is; line: the population asked for; each scaled to its own height";
  return h("div", {}, h("div", { class: "scroll" }, h("table", {}, h("tr", {}, ...["variable", ...heads, "status"].map((head) => h("th", { scope: "col" }, head))), ...lines)),
    doing ? h("p", { class: "note" }, "differences: means of rows that share their noise, with 95 % intervals over the rows drawn; what the model may have learned wrongly is not in them") : null, plots(note, drawn.filter(Boolean)));
}

function question() {
  const parts = Object.entries(state.do).map(([name, value]) => {
    const { labels, unit } = page.schema.variables[name];
    return `${name} = ${labels ? labels[value] : Number(value.toPrecision(4))}${unit ? " " + unit : ""}`;
  });
  const missing = page.latest.missing.length ? `; ${page.latest.missing.join(", ")} missing, drawn given the rest` : "";
  const held = state.hold.length ? `; ${state.hold.join(", ")} held` : "";
  if (!parts.length) return `${WORDS[state.rung].title}. Nothing is ${WORDS[state.rung].act} yet${missing}.`;
  const row = state.upload ? "your image" : `row ${state.row}`, { moved } = page.latest.models[state.shown] ?? page.latest.models[0];
  const of = { seeing: `p( · | ${parts.join(", ")})`, doing: `p( · | do(${parts.join(", ")}))`,
    imagining: `${row} under do(${parts.join(", ")})${held}${missing}`,
    backtracking: `${row} with ${parts.join(", ")}; ${moved ? `the noise moves by ${moved.total}` : "no noise has to move"}` }[state.rung];
  return `${WORDS[state.rung].title}: ${of}`;
}

// The truth comes after the answer, and fills the place left for it.
const awaited = () => page.schema.world && aboutRow() && !state.upload && Object.keys(state.do).length > 0;

export async function drawTruth() {
  if (!awaited()) return;
  const { latest } = page;
  const truth = await ask("truth").catch(() => ({ known: false }));
  if (latest !== page.latest) return;
  for (const place of document.querySelectorAll(".truth.waiting")) {
    const { model, image } = place.parentElement.dataset;
    if (!truth.known) place.querySelector("small").textContent = "not known for this question";
    else place.replaceWith(h("figure", { class: "truth" }, h("img", { src: truth.images[image], alt: `${image} truth` }),
      h("figcaption", {}, "truth", h("small", {}, `the answer is off by ${truth.errors[model][image].toPrecision(3)} grey levels on average`))));
  }
  for (const node of document.querySelectorAll(".node:is(.propagated, .moved)")) {
    const value = truth.values?.[node.dataset.name];
    if (value !== undefined) node.querySelector(".value").append(h("span", { class: "status" }, ` truth ${bare(value, node.dataset.name)}`));
  }
}
