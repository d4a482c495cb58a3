// The page: one state, which is the query and the link; everything else is drawn from answers to it.
import { h } from "./drawing.js";
import * as folds from "./folds.js";
import { drawNodes, watch } from "./graph.js";
import * as own from "./own.js";
import { drawPictures, drawTruth } from "./pictures.js";
import { $, WORDS, ask, change, page, read, restore, say, state } from "./state.js";

let asking = false, asked = null, turn = 0, settle = false, version = 0;

page.update = async function update(settled = true) {
  // While a slider moves, one question at a time, and then the newest. Let go, it is asked at once,
  // and what is under way is not waited for.
  settle ||= settled;
  if (asking && (!settled || asked === JSON.stringify(state))) return;
  const mine = ++turn;
  asking = true;
  let failed = false;
  say("");
  while (asked !== JSON.stringify(state)) {
    asked = JSON.stringify(state);
    try {
      const found = await ask("answer");
      if (mine !== turn) return;
      page.latest = found;
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
  if (failed) asked = null;  // the same may be asked again
  if (settle) await followUp();
};

async function followUp() {
  settle = false;
  const mine = ++version;
  await drawTruth();
  await folds.refresh();
  if (mine === version) document.body.dataset.settled = version;
}

function refused(error) {
  // What was answered before stays, marked as such; the controls show what was asked.
  say(error.message);
  page.stale = true;
  drawControls();
  drawNodes();
  $("pictures").classList.add("stale");
  $("question").textContent = "This question has no answer; what is below is of the one before.";
}

function drawControls() {
  for (const input of document.querySelectorAll("[name=rung]")) input.checked = input.value === state.rung;
  for (const input of document.querySelectorAll("[name=shown]")) input.checked = Number(input.value) === state.shown;
  const imagining = state.rung === "imagining";
  $("rowfield").hidden = !imagining;
  for (const id of ["row", "particles", "seed"]) if (document.activeElement !== $(id)) $(id).value = state[id];
  $("particles").parentElement.hidden = !imagining;
  $("hint").textContent = `Click a variable to ${WORDS[state.rung].verb} it` + (imagining ? "; what follows from it can be held." : ".");
}

function listen() {
  $("rungs").addEventListener("change", (event) => change({ rung: event.target.value, hold: [] }));
  $("shown").addEventListener("change", (event) => change({ shown: Number(event.target.value) }));
  for (const id of ["row", "particles", "seed"]) $(id).addEventListener("change", (event) => {
    if (event.target.value === "") return;
    if (id === "row") delete state.own;
    change({ [id]: Number(event.target.value) });
  });
  const step = (by) => () => { delete state.own; change({ row: (state.row + by + page.schema.rows) % page.schema.rows }); };
  $("previous").addEventListener("click", step(-1));
  $("next").addEventListener("click", step(1));
  $("reset").addEventListener("click", () => { restore({}); change({}); });
  addEventListener("hashchange", () => { if (location.hash.slice(1) !== page.latest?.link) follow(); });
  folds.listen();
  own.listen();
  watch();
}

async function follow() {
  const wrong = read();
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
$("row").max = page.schema.rows - 1;
listen();
await follow();
