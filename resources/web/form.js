// What the pages that people fill in share: one screen at a time in <main>, and words with the server.
const main = document.getElementById("main");
const RETRY = 2000;  // milliseconds between tries to reach the server
const note = (text) => { document.getElementById("status").textContent = text; };

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function show(...children) {
  main.replaceChildren(...children.filter((child) => child != null));
  const heading = main.querySelector("h1, h2");
  heading.tabIndex = -1;
  heading.focus();
  window.scrollTo(0, 0);
}

// Asks the server, with the CSRF token that `csrf` returns; a refusal is an error with its status and reason.
const caller = (csrf) => async (method, path, body) => {
  const response = await fetch(path, {
    method, credentials: "same-origin", cache: "no-store",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf() },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.detail || response.statusText || response.status), { status: response.status, reason: answer.reason });
};
