// The page: one state, which is the query and the link; all else is drawn from the answers to it.
import * as draw from "./draw.js";
import { h } from "./drawing.js";
import * as folds from "./folds.js";
import { drawNodes, watch } from "./graph.js";
import * as start from "./start.js";
import * as uploads from "./uploads.js";
import { drawPictures, drawTruth } from "./pictures.js";
import { $, WORDS, aboutRow, ask, change, page, read, restore, say, state } from "./state.js";

let asking = false, sent = null, turn = 0, settle = false, version = 0;

page.update = async function update(settled = true) {
  // While a slider moves, ask one query at a time, then the newest. When it is released, ask at once,
  // without waiting for the query under way.
  settle ||= settled;
  if (asking && (!settled || sent === JSON.stringify(state))) return;
  const mine = ++turn;
  asking = true;
  let failed = false;
  say("");
  while (sent !== JSON.stringify(state)) {
    sent = JSON.stringify(state);
    try {
      const answer = await ask("answer");
      if (mine !== turn) return;
      page.latest = answer;
      page.stale = false;
      drawControls();
      drawNodes();
      await drawPictures();
      if (mine !== turn) return;
      history.replaceState(null, "", "#" + page.latest.link);
      document.body.dataset.shown = page.latest.link;
      if (failed) say("");
      failed = false;
    } catch (error) {
      if (mine !== turn) return;
      refused(error);
      failed = true;
    }
    document.body.dataset.answers = 1 + Number(document.body.dataset.answers ?? 0);
  }
  asking = false;
  if (failed) sent = null;  // the same query may be sent again
  if (settle) await followUp();
};

async function followUp() {
  settle = false;
  start.remember();
  const mine = ++version;
  await drawTruth();
  await folds.refresh();
  if (mine === version) document.body.dataset.settled = version;
}

function refused(error) {
  // The previous answer stays, marked as stale; the controls show the new query.
  say(error.message);
  page.stale = true;
  drawControls();
  drawNodes();
  $("pictures").classList.add("stale");
  $("question").textContent = "This question has no answer; the page still shows the previous one.";
}

function drawControls() {
  for (const input of document.querySelectorAll("[name=rung]")) input.checked = input.value === state.rung;
  for (const input of document.querySelectorAll("[name=shown]")) input.checked = Number(input.value) === state.shown;
  $("rowfield").hidden = !aboutRow();
  for (const id of ["row", "particles", "seed", "slice"]) if (document.activeElement !== $(id)) $(id).value = state[id];
  $("particles").parentElement.hidden = !aboutRow();
  const more = { imagining: "; a variable that follows from it can be held.", backtracking: "; the noise above it moves, and every mechanism stays." }[state.rung];
  $("hint").textContent = `Click a variable to ${WORDS[state.rung].verb} it${more ?? "."}`;
}

function listen() {
  $("rungs").addEventListener("change", (event) => change({ rung: event.target.value, hold: [] }));
  $("shown").addEventListener("change", (event) => change({ shown: Number(event.target.value) }));
  for (const id of ["row", "particles", "seed"]) $(id).addEventListener("change", (event) => {
    if (event.target.value === "") return;
    if (id === "row") delete state.upload;
    change({ [id]: Number(event.target.value) });
  });
  $("slice").addEventListener("input", (event) => { state.slice = Number(event.target.value); page.update(false); });
  $("slice").addEventListener("change", () => page.update());
  const step = (by) => () => { delete state.upload; change({ row: (state.row + by + page.schema.rows) % page.schema.rows }); };
  $("previous").addEventListener("click", step(-1));
  $("next").addEventListener("click", step(1));
  $("reset").addEventListener("click", () => { restore({}); change({}); });
  addEventListener("hashchange", () => { if (location.hash.slice(1) !== page.latest?.link) follow(); });
  draw.listen();
  folds.listen();
  start.listen();
  uploads.listen();
  watch();
}

async function follow() {
  const wrong = read();
  if (location.hash.length < 2 && page.schema.examples.length) restore(page.schema.examples[0].query);  // a real change to begin with
  await change({});
  if (wrong) say(wrong);
}

function nameModels() {
  const { models } = page.schema;
  if (models.length === 1) return $("models").append(models[0]);
  $("shown").hidden = false;
  $("shown").append(...models.map((name, k) => h("label", {}, h("input", { type: "radio", name: "shown", value: k }), h("span", {}, name))));
}

page.schema = await (await fetch("/api/schema")).json();
nameModels();
$("slicefield").hidden = !Object.values(page.schema.variables).some((variable) => variable.volume);
$("row").max = page.schema.rows - 1;
listen();
await follow();
