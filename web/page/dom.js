// Building what is shown. Texts become text nodes, never markup.

import { language, languages, nameOf, setLanguage, text } from "./text.js";

// make("p.big", {lang: "en"}, "text", node, …)
export function make(what, properties, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
}

const at = (id) => document.getElementById(id);

let current;
let leave;

// Shows a screen: a function that returns {title, tone, content, actions, busy, leave, focus}. It is
// called again when the language changes, so what it has to keep is made before it. leave is called when
// another screen comes, or the page goes. The title gets the focus, so that a screen reader begins
// there, unless the screen names another element.
export function show(screen) {
  leave?.();
  current = screen;
  draw(true);
}

function draw(moved) {
  const { title, tone, content = [], actions = [], busy = false, leave: left, focus } = current();
  leave = left;
  document.documentElement.lang = language();
  document.title = title;
  const heading = make("h1", { tabindex: "-1" }, title);
  const main = at("main");
  main.className = tone ?? "";
  main.setAttribute("aria-busy", String(busy));
  main.replaceChildren(heading, ...content.filter(Boolean));
  const shown = actions.filter(Boolean);
  at("actions").hidden = shown.length === 0;
  at("actions").setAttribute("aria-label", text("actions"));
  at("actions").replaceChildren(...shown);
  drawLanguage();
  if (!moved) return;
  say(""); // the title has the focus, and is read
  main.scrollTop = 0;
  (focus ?? heading).focus({ preventScroll: true });
}

// What a screen reader says without the focus being moved.
export function say(words) {
  at("said").textContent = words;
}

export const button = (label, onClick, kind = "button") => make(kind, { type: "button", click: onClick }, label);

// A list of names and values.
export function facts(...rows) {
  return make("dl", null, ...rows.filter(Boolean).flatMap(([name, value]) => [make("dt", null, name), make("dd", null, value)]));
}

function drawLanguage() {
  const other = languages.find((l) => l !== language());
  const old = at("language");
  const change = () => {
    setLanguage(other);
    draw(false);
    say(text("switched"));
    at("language").focus();
  };
  old.replaceWith(make("button", { type: "button", id: "language", lang: other, click: change }, nameOf(other)));
}

// What is typed goes with the page. One that a browser has kept begins anew.
addEventListener("pagehide", () => leave?.());
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
