"use strict";
// Sends images one by one to /predict and shows what comes back; the slider changes verdicts, not scores.

const LARGEST = 50; // results on the page
const get = (id) => document.getElementById(id);
const [drop, files, status, slider] = ["drop", "files", "status", "threshold"].map(get);
const results = [];
let run = null, low = 0, high = 1, waiting = Promise.resolve();

const digits = (value) => value.toPrecision(4).replace("-", "\u2212");
const place = (value) => `${100 * Math.min(1, Math.max(0, (value - low) / (high - low || 1)))}%`;

function say(text, error = false) {
  status.textContent = text;
  status.classList.toggle("error", error);
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.detail || `the service answers ${response.status}`);
  return body;
}

async function start() {
  run = await answer(await fetch("version"));
  get("run").textContent = `${run.run} (${run.method}), adtr ${run.version}`;
  [low, high] = run.scores;
  get("origin").textContent = run.threshold === null
    ? "This run held out no images to set a threshold by: move the slider to set your own."
    : `The run’s is ${digits(run.threshold)}${run.false_alarms ? `: at most ${100 * run.false_alarms} % false alarms` : ""}.`;
  get("reset").hidden = run.threshold === null;
  widen(run.threshold ?? (low + high) / 2, true);
}

// The slider spans the scores of the run's test images and all that were seen here
function widen(value, set = false) {
  const threshold = set ? value : Number(slider.value);
  low = Math.min(low, value);
  high = Math.max(high, value);
  Object.assign(slider, { min: low, max: high, step: (high - low) / 1000 || "any" });
  slider.dataset.exact = set ? value : slider.dataset.exact;
  slider.value = threshold;
  judge();
}

function judge() {
  const exact = Number(slider.dataset.exact);
  const threshold = Math.abs(exact - slider.value) <= slider.step ? exact : Number(slider.value); // a step is coarse
  get("value").textContent = digits(threshold);
  slider.setAttribute("aria-valuetext", digits(threshold));
  let anomalous = 0;
  for (const { score, card } of results) {
    const above = score > threshold;
    anomalous += above;
    card.className = above ? "anomalous" : "normal";
    card.querySelector(".verdict b").textContent = above ? "Anomalous:" : "Normal:";
    card.querySelector(".verdict span").textContent =
      `score ${digits(score)}, ${above ? "above" : "not above"} the threshold ${digits(threshold)}`;
    card.querySelector(".score").style.left = place(score);
    card.querySelector(".limit").style.left = place(threshold);
  }
  get("count").textContent = `${anomalous} of ${results.length} anomalous`;
}

function show(file, found) {
  const card = get("result").content.firstElementChild.cloneNode(true);
  card.querySelector("h2").textContent = file.name;
  const [image, map] = card.querySelectorAll("img");
  image.alt = file.name;
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => image.parentElement.remove(); // a TIFF, which few browsers show
  image.src = URL.createObjectURL(file);
  map.alt = `Anomaly map of ${file.name}`;
  map.src = `data:image/png;base64,${found.overlay}`;
  const [left, top, right, bottom] = found.box || [];
  const region = found.box
    ? `Largest region: ${found.area.toLocaleString("en")} px, from (${left}, ${top}) to (${right}, ${bottom}). `
    : "";
  card.querySelector(".region").textContent =
    `Highest at (${found.peak.join(", ")}). ${region}${found.width} × ${found.height} px, ${Math.round(found.milliseconds)} ms.`;
  results.unshift({ score: found.pred_score, card });
  get("results").prepend(card);
  for (const { card: old } of results.splice(LARGEST)) old.remove();
  get("setting").hidden = false;
  widen(found.pred_score);
}

async function send(file, retries = 5) {
  if (!run) await start();
  if (file.size > run.limits.bytes) {
    throw new Error(`${file.name}: more than ${run.limits.bytes >> 20} MB, which is too large`);
  }
  say(`Scoring ${file.name} …`);
  const response = await fetch("predict", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
  if (response.status === 503 && retries) {
    say(`${file.name} waits, as the service is busy …`);
    await new Promise((resume) => setTimeout(resume, 1000 * (response.headers.get("Retry-After") || 1)));
    return send(file, retries - 1);
  }
  show(file, await answer(response));
  say(`${file.name}: ${results[0].card.querySelector(".verdict").textContent}`);
}

function take(list) {
  const failed = [];
  for (const file of list) {
    waiting = waiting.then(() => send(file)).catch((error) => {
      failed.push(`${file.name}: ${error.message}`);
      say(failed.join("\n"), true);
    });
  }
  waiting = waiting.then(() => failed.length && say(failed.join("; "), true));
}

files.addEventListener("change", () => { take([...files.files]); files.value = ""; });
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take([...event.dataTransfer.files]);
});
slider.addEventListener("input", judge);
get("reset").addEventListener("click", () => { widen(run.threshold, true); });
start().catch((error) => say(error.message, true));
