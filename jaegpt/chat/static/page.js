// What both pages share: asking the server, and saying what went wrong. Addresses are relative, so that the page works
// under any path, and texts reach the page by textContent alone: what anyone wrote is never markup.

export const element = id => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function tell(text, isError = false) {
  element("note").textContent = text;
  element("note").classList.toggle("error", isError);
}

// The response to a POST of JSON (an object, or a text or file that already is); what went wrong is an Error's message.
export async function post(path, content, signal) {
  const body = typeof content === "string" || content instanceof Blob ? content : JSON.stringify(content);
  let response;
  try {
    response = await fetch(path, {method: "POST", headers: {"content-type": "application/json"}, body, signal});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const text = await response.text();
  let message = text || `The server answered with status ${response.status}.`;
  try {
    const found = JSON.parse(text).error;
    message = found?.message ?? found ?? message;
  } catch {
    // plain text, as the guard in front answers
  }
  throw new Error(message);
}

// The events of a streamed response, in turn.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const {done, value} = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part.slice("data: ".length));
  }
}
