// The page of `jaegpt turing`: one round after the other. Which reply is real never comes here.

import {element, make, post, tell} from "./page.js";

let shown = null; // what the server sent last
let waiting = false; // for the server: a second click in the meantime is no pick

const sides = () => Object.keys(shown?.replies ?? {}); // A, B and so on; none when a game is over
const name = side => `pick-${side.toLowerCase()}`;

// A side's button, which stays from round to round, so that the keyboard's focus does.
function button(side) {
  if (!element(name(side))) {
    const made = {type: "button", id: name(side), className: "pick", onclick: () => pick(side)};
    element("picks").append(
      make("button", made, make("span", {className: "side"}, side), make("span", {className: "said"})));
  }
  return element(name(side));
}

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
  for (const side of sides()) button(side).lastChild.textContent = shown.replies[side] || "(nothing)";
  for (const made of element("picks").children) made.hidden = !sides().includes(made.firstChild.textContent);
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

element("again").onclick = () => ask("start", {});
document.addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const side = event.key.toUpperCase();
  if (sides().includes(side)) pick(side);
});
await ask("start", {});
