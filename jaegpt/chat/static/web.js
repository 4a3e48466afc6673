// The page of `jaegpt web`. The conversation lives here, and goes to the server as far as a reply needs it.

import {element, events, make, post, tell} from "./page.js";

const MODELS = ["jaegpt", "base"];
const box = element("message");

let begun = null; // what the server said at first: settings, limits, the saved form
let exchanges = []; // with both replies: {text, replies: {jaegpt, base}, attempt}
let coming = null; // the exchange whose replies are on their way, {exchange, kept, controller}; kept: what it replaces

// ---- what is shown

function draw() {
  const shown = coming ? [...exchanges, coming.exchange] : exchanges;
  for (const model of MODELS) {
    const column = element(`column-${model}`);
    const atEnd = column.scrollHeight - column.scrollTop - column.clientHeight < 40;
    column.ariaBusy = String(coming !== null); // read aloud once it is whole
    const turns = shown.flatMap(one => [...bubbles("you", one.text), ...bubbles(model, one.replies[model] || "…")]);
    while (column.children.length > turns.length) column.lastChild.remove();
    turns.forEach(([who, text], place) => {
      const said = column.children[place] ?? column.appendChild(make("li", {}, make("span", {className: "said"})));
      said.className = who === "you" ? "you" : "model";
      said.ariaLabel = who === "you" ? "You" : model;
      if (said.firstChild.textContent !== text) said.firstChild.textContent = text;
    });
    if (atEnd) column.scrollTop = column.scrollHeight;
  }
}

// A turn of several messages is as many bubbles, where the model has learned to write them.
function bubbles(who, text) {
  if (who === "you" && !text) return []; // the models began
  const messages = begun?.bursts ? text.split("\n").filter(message => message.trim()) : [text];
  return messages.map(message => [who, message]);
}

function fit() { // the box grows with what is typed; a style set by script is no inline style of the page
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, 200)}px`;
}

function fill(text) {
  box.value = text;
  fit();
}

// ---- settings

function drawSettings() {
  const place = element("settings");
  for (const {name, about, step, low, high, choices, value} of begun.settings) {
    if (choices) {
      const options = choices.map(choice => make("option", {selected: choice === value}, choice));
      addSetting(place, name, about, make("select", {id: `set-${name}`}, ...options));
      continue;
    }
    const limits = {min: low, max: high, step, value};
    const number = make("input", {type: "number", id: `set-${name}`, ...limits});
    const slider = make("input", {type: "range", tabIndex: -1, ariaHidden: "true", ...limits});
    slider.oninput = () => (number.value = slider.value);
    number.oninput = () => (slider.value = number.value);
    addSetting(place, name, about, number, slider);
  }
  const seed = {type: "text", id: "set-seed", inputMode: "numeric", maxLength: 19, value: begun.seed.value};
  addSetting(place, "seed", begun.seed.about, make("input", seed));
}

function addSetting(place, name, about, input, ...more) {
  const hint = make("p", {id: `about-${name}`, className: "about"}, about);
  input.setAttribute("aria-describedby", hint.id);
  const label = make("label", {htmlFor: input.id}, name);
  place.append(make("div", {className: "setting"}, label, make("div", {className: "values"}, ...more, input), hint));
}

function settings() {
  const value = name => element(`set-${name}`).value.trim();
  const number = text => (text === "" ? null : Number(text));
  return Object.fromEntries(begun.settings.map(({name, choices}) =>
    [name, choices ? value(name) : number(value(name))]));
}

const seed = () => element("set-seed").value.trim();

function restore(values) {
  for (const [name, value] of Object.entries(values)) {
    const input = element(`set-${name}`);
    input.value = value;
    input.dispatchEvent(new Event("input"));
  }
}

// ---- what the buttons do

function stop() {
  coming?.controller.abort();
  coming = null;
}

// Ask for both replies to `text`; where that fails, `kept` (an exchange that was answered before) stands there again.
async function answer(text, attempt, kept) {
  stop();
  const mine = {exchange: {text, replies: {jaegpt: "", base: ""}, attempt}, kept, controller: new AbortController()};
  coming = mine;
  draw();
  const before = exchanges.slice(-begun.mostBefore).map(one => ({text: one.text, replies: one.replies}));
  try {
    const body = {text, before, attempt, settings: settings(), seed: seed()};
    let ended = false;
    for await (const event of events(await post("reply", body, mine.controller.signal))) {
      if (coming !== mine) return; // a later action has taken over
      if (event.error) throw new Error(event.error);
      if (event.text) mine.exchange.text = event.text;
      if (event.model) mine.exchange.replies[event.model] += event.piece;
      if (event.end) ended = true;
      if (event.shortened) tell("The message is longer than the models read: only its end counts.");
      draw();
    }
    if (!ended) throw new Error("The server ended before its reply did.");
    if (coming !== mine) return;
    exchanges.push(mine.exchange);
    coming = null;
  } catch (error) {
    if (coming !== mine) return;
    coming = null;
    if (kept) exchanges.push(kept);
    else if (!box.value) fill(text);
    tell(error.message, true);
  }
  draw();
}

function say() {
  if (!begun) return;
  if (coming) return tell("The replies to your last message are on their way. Undo takes it back.");
  // No halves of emoji; of a text beyond all measure the end, which is all that is read.
  const text = new TextDecoder().decode(new TextEncoder().encode(box.value)).slice(-2 * begun.mostText - 2);
  const begins = begun.first && !exchanges.length; // an empty message lets the models speak first
  if (!text.trim() && !begins) return tell("Type a message first.");
  tell("");
  fill("");
  answer(text.trim() ? text : "", 0, null);
}

function retry() {
  if (!coming && !exchanges.length) return tell("Nothing has been said yet.");
  tell("");
  const last = coming ? coming.exchange : exchanges.pop();
  answer(last.text, last.attempt + 1, coming ? coming.kept : last);
}

function undo() {
  if (!coming && !exchanges.length) return tell("Nothing has been said yet.");
  tell("");
  const last = coming ? coming.exchange : exchanges.pop();
  stop();
  if (!box.value) fill(last.text);
  draw();
  box.focus();
}

function reset() {
  tell("");
  stop();
  exchanges = [];
  fill("");
  draw();
  box.focus();
}

// The same form as the terminal's /save writes. Digits of a seed beyond a browser's numbers are put in as they are.
function save() {
  if (!exchanges.length) return tell("Nothing has been said yet.");
  tell("");
  const log = model => exchanges.flatMap(({text, replies}) =>
    [{role: "user", content: text}, {role: "assistant", content: replies[model]}]);
  const form = {
    format: begun.format,
    settings: {seed: seed(), ...settings(), ...begun.view},
    logs: Object.fromEntries(MODELS.map(model => [model, log(model)])),
  };
  const text = JSON.stringify(form, null, 2).replace(/"seed": "([0-9]+)"/, (_, digits) => `"seed": ${BigInt(digits)}`);
  const link = make("a", {href: URL.createObjectURL(new Blob([`${text}\n`], {type: "application/json"}))});
  link.download = "conversation.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // not before the browser has read it
}

async function load(file) {
  if (file.size > begun.mostBytes) {
    const most = begun.mostBytes.toLocaleString("en");
    return tell(`${file.name} is too large for a saved conversation (at most ${most} bytes).`, true);
  }
  try {
    const loaded = await (await post("load", await file.text())).json();
    stop();
    exchanges = loaded.exchanges;
    if (loaded.settings) restore(loaded.settings);
    tell(loaded.settings ? "" : "The saved settings cannot be used here. The settings stay as they are.");
    draw();
  } catch (error) {
    tell(`${file.name}: ${error.message}`, true);
  }
}

element("ask").onsubmit = event => {
  event.preventDefault();
  say();
};
box.onkeydown = event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say();
};
box.oninput = fit;
element("retry").onclick = () => begun && retry();
element("undo").onclick = undo;
element("reset").onclick = reset;
element("save").onclick = () => begun && save();
element("load").onclick = () => begun && element("file").click();
element("file").onchange = async ({target}) => {
  const [file] = target.files;
  target.value = ""; // the same file can be chosen again
  if (file && begun) await load(file);
};

try {
  begun = await (await post("begin", {})).json();
  drawSettings();
  if (begun.first) box.placeholder = "Say something, then Enter; or nothing, and they begin";
  document.body.dataset.ready = "yes";
} catch (error) {
  tell(error.message, true);
}
