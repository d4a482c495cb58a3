// The dialog for an image of your own: uploaded or drawn, with known values typed and others inferred.
import { h } from "./drawing.js";
import { $, ask, change, page } from "./state.js";

const EDGE = 256;  // pixels of the longer side of the canvas

export function listen() {
  const { schema } = page;
  $("own").hidden = !schema.uploads;
  if (!schema.uploads) return;
  const { width, height, channels } = schema.variables[schema.images[0]];
  $("wanted").textContent = `${width}×${height} pixels, ${channels === 3 ? "in colour" : "in shades of grey"}, PNG or JPEG, at most ${schema.largest >> 20} MB.`;
  $("known").replaceChildren(...Object.keys(schema.variables).filter((name) => !schema.images.includes(name)).map(field));
  const canvas = $("canvas"), drawn = drawing(canvas, width, height);
  $("ink").hidden = channels !== 3;
  $("wipe").addEventListener("click", drawn.wipe);
  $("own").addEventListener("click", () => { drawn.wipe(); $("refused").hidden = $("fit").hidden = true; $("file").value = ""; $("upload").showModal(); });
  const take = (fit) => async () => {
    const file = $("file").files[0];
    if (!file && drawn.empty()) return refuse("choose a file, or draw an image");
    if (file?.size > schema.largest) return refuse(`the file has more than ${schema.largest >> 20} MB`);
    await adopt(file ?? await drawn.picture(), fit);
  };
  $("take").addEventListener("click", take(false));
  $("fit").addEventListener("click", take(true));
}

function field(name) {
  const { labels, unit, settable } = page.schema.variables[name];
  const read = page.schema.readable.includes(name);
  const hint = read ? "inferred" : "needed: no predictor reads it";
  const input = !settable ? h("span", { class: "hint" }, "not a single number")
    : labels ? h("select", { name }, h("option", { value: "" }, hint), ...labels.map((label, code) => h("option", { value: code }, label)))
      : h("input", { name, type: "number", step: "any", placeholder: hint });
  return h("label", { class: "known" }, `${name}${unit ? `, ${unit}` : ""}`, input);
}

function known() {
  const stated = {};
  for (const input of $("known").querySelectorAll("input,select")) if (input.value !== "") stated[input.name] = Number(input.value);
  return stated;
}

function drawing(canvas, width, height) {
  const scale = EDGE / Math.max(width, height);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let blank = true;
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height]; };
  canvas.addEventListener("pointerdown", (event) => {
    Object.assign(pen, { lineWidth: EDGE / 12, lineCap: "round", lineJoin: "round", strokeStyle: $("ink").hidden ? "#fff" : $("colour").value });
    canvas.setPointerCapture(event.pointerId);
    pen.beginPath();
    pen.moveTo(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) { blank = false; pen.lineTo(...at(event)); pen.stroke(); } });
  return {
    empty: () => blank,
    wipe() { blank = true; pen.fillStyle = "#000"; pen.fillRect(0, 0, canvas.width, canvas.height); },
    picture() {
      const small = new OffscreenCanvas(width, height), brush = small.getContext("2d");
      brush.imageSmoothingQuality = "high";
      brush.drawImage(canvas, 0, 0, width, height);
      return small.convertToBlob({ type: "image/png" });
    },
  };
}

function refuse(message) {
  $("refused").textContent = message;
  $("refused").hidden = false;
  $("fit").hidden = !/ pixels, expected /.test(message);
}

async function adopt(blob, fit) {
  try {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    const reply = await ask("upload", { content: btoa(text), known: known(), fit });
    $("upload").close();
    change({ upload: reply.upload, rung: "imagining", do: {}, hold: [] });
  } catch (error) { refuse(error.message); }
}
