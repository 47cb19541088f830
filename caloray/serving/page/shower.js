// The page: a form for a particle, a request to the service, and the shower that comes back.

import { brush, colourAt, digits, Scale, spelled } from "./colours.js";
import { byLayer, drawLayer } from "./layers.js";
import { drawProfile } from "./profile.js";
import { Space } from "./space.js";

const id = (name) => document.getElementById(name);
const DIRECTION = ["direction_x", "direction_y", "direction_z"];
const TOKEN = "caloray-token";
const space = new Space(id("space"));
let models = [], shown = null, layerAt = () => 0;

// ------------------------------------------------------------------ talking to the service

async function ask(path, body) {
  const headers = { Accept: "application/json" };
  const token = id("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw { message: "The service does not answer.", hint: "Is it still running?" };
  }
  const value = await reply.json().catch(() => null);
  if (!reply.ok || !value) throw { status: reply.status, ...(value?.error ?? { message: `The service answered ${reply.status}.`, hint: "" }) };
  return value;
}

function explain(problem) {
  const box = id("problem");
  box.replaceChildren();
  const head = document.createElement("strong");
  head.textContent = problem.code ? `${problem.message} (${problem.code})` : problem.message;
  box.append(head, problem.hint ?? "");
  box.hidden = false;
  if (problem.status === 401) id("token").focus();
}

async function busy(text, work) {
  id("make").disabled = true;
  id("status").textContent = text;
  id("problem").hidden = true;
  try {
    await work();
  } catch (problem) {
    if (!(problem && problem.message)) throw problem;
    id("status").textContent = "";
    explain(problem);
    if (problem instanceof Error) throw problem;
  } finally {
    id("make").disabled = false;
  }
}

// ------------------------------------------------------------------ the form

const model = () => models.find((one) => one.name === id("model").value);

async function loadModels() {
  models = await ask("v1/models");
  id("model").replaceChildren(...models.map((one) => new Option(one.name, one.name)));
  id("model").disabled = models.length < 2;
  chooseModel();
  id("status").textContent = "";
}

function chooseModel() {
  const { geometry, energy_range: [low, high], conditions } = model();
  const particle = geometry.particle ? `${geometry.particle}, ` : "";
  id("about-model").textContent = `${particle}${geometry.name}: ${geometry.n_layers} layers, ${geometry.n_voxels.toLocaleString("en")} voxels`;
  id("energy").min = low / 1e3;
  id("energy").max = high / 1e3;
  id("range").textContent = `Trained from ${spelled(low)} to ${spelled(high)}.`;
  setEnergy(Math.sqrt(low * high));
  id("conditions").replaceChildren(...conditionFields(conditions));
}

function setEnergy(mev) {
  id("energy").value = Number((mev / 1e3).toPrecision(3));
  moveSlider();
}

function moveSlider() {
  const [low, high] = model().energy_range;
  const mev = id("energy").value * 1e3;
  if (mev > 0) id("slider").value = Math.round((1000 * Math.log(mev / low)) / Math.log(high / low));
}

function slide() {
  const [low, high] = model().energy_range;
  const mev = low * (high / low) ** (id("slider").value / 1000);
  id("energy").value = Math.min(high / 1e3, Math.max(low / 1e3, Number((mev / 1e3).toPrecision(3))));
}

function conditionFields(conditions) {
  const names = conditions.map((one) => one.name);
  const whole = DIRECTION.every((name) => names.includes(name));
  const fields = conditions.filter((one) => !(whole && DIRECTION.includes(one.name))).map((one) => field(
    `condition-${one.name}`, one.unit && one.unit !== "1" ? `${one.name} [${one.unit}]` : one.name,
    (one.low + one.high) / 2, one.low, one.high, `Trained from ${digits(one.low)} to ${digits(one.high)}.`,
  ));
  if (whole) fields.push(...angleFields(conditions));
  return fields;
}

function angleFields(conditions) {
  const z = conditions.find((one) => one.name === "direction_z");
  const polar = (value) => (Math.acos(Math.min(1, Math.max(-1, value))) * 180) / Math.PI;
  const [low, high] = [polar(z.high), polar(z.low)];
  const range = `Trained from ${low.toFixed(1)} to ${high.toFixed(1)} degrees.`;
  return [
    field("theta", "Polar angle [degrees]", (low + high) / 2, low, high, range),
    field("phi", "Azimuth [degrees]", 0, -180, 180, "Around the axis of the calorimeter."),
  ];
}

function field(name, text, value, low, high, about) {
  const box = document.createElement("div"), label = document.createElement("label");
  const input = document.createElement("input"), note = document.createElement("p");
  box.className = "field";
  label.htmlFor = input.id = name;
  label.textContent = text;
  Object.assign(input, { type: "number", step: "any", required: true, min: low, max: high, value: Number(value.toPrecision(4)) });
  note.className = "about";
  note.id = `${name}-about`;
  note.textContent = about;
  input.setAttribute("aria-describedby", note.id);
  box.append(label, input, note);
  return box;
}

function request() {
  const conditions = {};
  const names = model().conditions.map((one) => one.name);
  const theta = id("theta");
  if (theta) {
    const [t, p] = [theta, id("phi")].map((input) => (Number(input.value) * Math.PI) / 180);
    const unit = [Math.sin(t) * Math.cos(p), Math.sin(t) * Math.sin(p), Math.cos(t)];
    DIRECTION.forEach((name, i) => { conditions[name] = unit[i]; });
  }
  for (const name of names) if (!(name in conditions)) conditions[name] = Number(id(`condition-${name}`).value);
  return { model: model().name, energies: [Number(id("energy").value) * 1e3], conditions, seed: Number(id("seed").value) };
}

// ------------------------------------------------------------------ the shower

async function make() {
  if (!models.length) await loadModels();
  if (!id("form").reportValidity()) return;
  const began = performance.now();
  const reply = await ask("v1/showers", request());
  show(reply, performance.now() - began);
  id("status").textContent = `Made in ${digits(performance.now() - began)} ms.`;
}

function show(reply, milliseconds) {
  const shower = reply.showers[0], { geometry } = reply;
  const layers = byLayer(shower, geometry), scale = new Scale(shower.energy);
  const brightest = layers.reduce((best, one, i) => (one.sum > layers[best].sum ? i : best), 0);
  shown = { geometry, layers, scale, chosen: brightest };
  id("result").hidden = false;
  tell(shower, layers, reply, milliseconds);
  buildImages();
  buildTable();
  redraw();
}

function tell(shower, layers, reply, milliseconds) {
  const total = shower.energy.reduce((sum, energy) => sum + energy, 0);
  const middle = layers.reduce((sum, one, i) => sum + i * one.sum, 0) / (total || 1);
  const facts = {
    "Incident energy": spelled(shower.incident_energy),
    "Energy seen": spelled(total),
    "Share seen": `${digits((100 * total) / shower.incident_energy)} %`,
    "Voxels hit": shower.voxel.length.toLocaleString("en"),
    "Mean layer": digits(middle),
    "Answer took": `${digits(milliseconds)} ms`,
    "Bundle": reply.bundle.slice(0, 12),
  };
  if (shower.attempts) facts["Drawn again"] = `${shower.attempts} times`;
  id("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const box = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    box.append(term, text);
    return box;
  }));
  id("space").setAttribute("aria-label", `${shower.voxel.length} voxels in space, ${spelled(total)} in all, centred on layer ${digits(middle)}`);
  id("profile").setAttribute("aria-label", `Energy by layer, highest in layer ${shown.chosen}: ${spelled(layers[shown.chosen].sum)}`);
}

function buildImages() {
  id("layers").replaceChildren(...shown.layers.map((one, i) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.append(canvas, String(i));
    button.setAttribute("aria-label", `Layer ${i}: ${spelled(one.sum)} in ${one.voxels.length} voxels`);
    button.addEventListener("click", () => choose(i));
    return button;
  }));
}

function buildTable() {
  id("table").tBodies[0].replaceChildren(...shown.layers.map((one, i) => {
    const row = document.createElement("tr");
    for (const text of [i, digits(one.sum), one.voxels.length]) row.insertCell().textContent = text;
    return row;
  }));
}

function choose(layer) {
  shown.chosen = layer;
  drawChosen();
}

function drawChosen() {
  const { geometry, layers, scale, chosen } = shown;
  layerAt = drawProfile(id("profile"), layers, chosen);
  drawLayer(id("layer"), geometry, chosen, layers[chosen], scale, true);
  const { sum, voxels } = layers[chosen];
  id("layer-facts").textContent = `Layer ${chosen}: ${spelled(sum)} in ${voxels.length} voxels`;
  id("layer").setAttribute("aria-label", id("layer-facts").textContent);
  [...id("layers").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === chosen)));
}

function redraw() {
  if (!shown) return;
  const { geometry, layers, scale } = shown;
  [...id("layers").children].forEach((button, i) => drawLayer(button.firstChild, geometry, i, layers[i], scale));
  drawBar(scale);
  drawChosen();
  space.show(geometry, layers, scale);
}

function drawBar(scale) {
  const { context, width, height } = brush(id("bar"));
  for (let x = 0; x < width; x += 1) {
    context.fillStyle = colourAt(x / width);
    context.fillRect(x, 0, 1.5, height);
  }
  id("scale-low").textContent = spelled(scale.low);
  id("scale-high").textContent = `${spelled(scale.high)} per voxel`;
}

// ------------------------------------------------------------------ events

id("form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, id("token").value.trim());
  busy("Making a shower …", make);
});
id("model").addEventListener("change", chooseModel);
id("energy").addEventListener("input", moveSlider);
id("slider").addEventListener("input", slide);
id("next").addEventListener("click", () => {
  id("seed").value = Number(id("seed").value) + 1;
  id("form").requestSubmit();
});
id("profile").addEventListener("click", (event) => shown && choose(layerAt(event.offsetX)));
let settled = 0;
window.addEventListener("resize", () => {
  clearTimeout(settled);
  settled = setTimeout(redraw, 120);
});
id("token").value = sessionStorage.getItem(TOKEN) ?? "";
busy("Asking what is served …", async () => {
  await loadModels();
  await make();
});
