// The page of `jaegpt turing`: one round after the other. Which reply is real never comes here.

import {element, make, post, tell} from "./page.js";

const SIDES = ["A", "B"];
let shown = null; // what the server sent last
let waiting = false; // for the server: a second click in the meantime is no pick

const button = side => element(`pick-${side.toLowerCase()}`);

function draw() {
  const over = "verdict" in shown;
  const played = over ? shown.count : shown.round - 1;
  element("progress").textContent = over
    ? `${shown.verdict} Saved as ${shown.file}.`
    : `Round ${shown.round} of ${shown.count}`;
  element("progress").classList.toggle("verdict", over);
  element("done").max = shown.count;
  element("done").value = played;
  const turns = (shown.history ?? []).map(({own, text}) =>
    make("li", {className: own ? "own" : "other"},
      make("b", {}, own ? "The person" : "Someone"), make("span", {className: "said"}, text)));
  element("context").replaceChildren(...turns);
  for (const side of SIDES) {
    button(side).hidden = over;
    button(side).lastChild.textContent = over ? "" : shown.replies[side] || "(nothing)";
  }
  element("again").hidden = !over;
  if (over) element("again").focus();
}

async function ask(path, body) {
  if (waiting) return;
  waiting = true;
  try {
    shown = await (await post(path, body)).json();
    tell("");
    draw();
  } catch (error) {
    tell(error.message, true);
    element("again").hidden = false;
  } finally {
    waiting = false;
  }
}

function pick(side) {
  if (shown && !("verdict" in shown)) ask("pick", {game: shown.game, round: shown.round, side});
}

for (const side of SIDES) button(side).onclick = () => pick(side);
element("again").onclick = () => ask("start", {});
document.addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const side = event.key.toUpperCase();
  if (SIDES.includes(side)) pick(side);
});
await ask("start", {});
