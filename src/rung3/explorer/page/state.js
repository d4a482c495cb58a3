// The state of the page: the query, which is also the link, and the latest answer.
export const $ = (id) => document.getElementById(id);
export const START = { rung: "imagining", row: 0, do: {}, hold: [], particles: 1, seed: 0, shown: 0, slice: 0.5 };
export const state = structuredClone(START);
export const page = { schema: null, latest: null, stale: false, lit: [], update: null };
export const WORDS = {
  seeing: { title: "See: what goes with what is observed", act: "observed", verb: "observe" },
  doing: { title: "Do: what if everyone were set to it", act: "set", verb: "set" },
  imagining: { title: "Imagine: what this row would have been", act: "set", verb: "set" },
  backtracking: { title: "Backtrack: what would most likely have led to it", act: "asked for", verb: "ask for" },
};
export const aboutRow = () => state.rung === "imagining" || state.rung === "backtracking";

export async function ask(what, more = {}) {
  const reply = await fetch(`/api/${what}`, {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query: state, ...more }),
  }).catch(() => { throw new Error("the server does not answer; is `rung3 explore` still running?"); });
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(answer.error ?? `the server answered ${reply.status}`);
  return answer;
}

export function say(message) {
  const broken = Object.entries(page.schema?.broken ?? {}).map(([run, why]) => `${run} ${why}`);
  $("message").textContent = [message, ...broken].filter(Boolean).join(" · ");
  $("message").hidden = !$("message").textContent;
}

export function change(more) {
  Object.assign(state, more);
  page.lit = [];
  return page.update();
}

export function restore(given) {
  for (const key of Object.keys(state)) delete state[key];
  Object.assign(state, structuredClone(START), given);
}

// Restore the state that the link holds; return what is wrong with it.
export function read() {
  try {
    const given = location.hash.length > 1 ? JSON.parse(decodeURIComponent(location.hash.slice(1))) : {};
    restore(given !== null && typeof given === "object" ? given : {});
    return "";
  } catch { restore({}); return "this link cannot be read"; }
}

export const shown = () => page.schema.graphs[state.shown] ?? page.schema.graphs[0];
export const bare = (text, name) => { const { unit } = page.schema.variables[name]; return unit && text.endsWith(` ${unit}`) ? text.slice(0, -unit.length - 1) : text; };
