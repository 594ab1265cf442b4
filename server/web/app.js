/** The page: one question, one or two lanes that answer it. */

import { Server } from "./api.js";
import { scaleOf } from "./bar.js";
import { write } from "./dom.js";
import { keepKey, keyFor } from "./keys.js";
import { Lane, compared } from "./lane.js";
import { Strip } from "./strip.js";

const byId = (id) => document.getElementById(id);
const form = byId("ask");
const question = byId("question");
const lanesRoot = byId("lanes");
const sideBySide = byId("side-by-side");

const own = new Server(document.baseURI);
const servers = [own];
const lanes = [new Lane("Answer", rescale)];
const strip = new Strip(byId("live"), own);
let targets = [];
let asking = null;

lanesRoot.append(lanes[0].root);
form.addEventListener("submit", ask);
byId("stop").addEventListener("click", () => asking?.abort());
sideBySide.addEventListener("change", arrange);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") asking?.abort();
});
window.addEventListener("pagehide", () => asking?.abort()); // a browser keeps a page that was left going for a while
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    question.value = example.textContent;
    question.focus();
  });
}
await start();
strip.run();

async function start() {
  const page = await own.page();
  own.markers = page.markers ?? [];
  if (page.compare_url) {
    const other = new Server(page.compare_url);
    other.markers = (await other.page()).markers ?? own.markers;
    servers.push(other);
  }
  servers.forEach(askForKey);
  await offer();
  sideBySide.checked ||= servers.length > 1; // or the reader was quicker
  arrange();
}

/** Find out what is served, and let the lanes choose from it: the first lane from the start, the second what is next. */
async function offer() {
  const found = await Promise.allSettled(servers.map(modelsOf));
  targets = found.flatMap((result) => result.value ?? []);
  const failure = found.find((result) => result.status === "rejected");
  write(byId("problem"), failure?.reason.message ?? "");
  byId("keys").open ||= failure?.reason.status === 401;
  lanes.forEach((lane, index) => lane.offer(targets, index));
  byId("send").disabled = targets.length === 0 || asking !== null;
}

async function modelsOf(server) {
  const models = await server.models();
  return models.map((model) => ({ server, model, markers: server.markers }));
}

/** A field for the server's API key. */
function askForKey(server) {
  const field = byId("key").content.cloneNode(true).firstElementChild;
  const input = field.querySelector("input");
  field.querySelector(".for").textContent = servers.length > 1 ? `API key for ${server.origin}` : "API key";
  input.value = keyFor(server.origin);
  input.addEventListener("change", async () => {
    keepKey(server.origin, input.value.trim());
    await offer();
    await strip.update();
  });
  byId("key-fields").append(field);
}

/** One lane, or two side by side. */
function arrange() {
  const both = sideBySide.checked;
  if (both && lanes.length === 1) {
    lanes.push(new Lane("Second answer", rescale));
    lanes[1].offer(targets, 1);
    lanesRoot.append(lanes[1].root);
  } else if (!both && lanes.length === 2) {
    lanes.pop().root.remove();
  }
  lanesRoot.classList.toggle("two", both);
  write(byId("difference"), "");
  rescale();
}

async function ask(event) {
  event.preventDefault();
  if (asking || targets.length === 0 || !lanes.every((lane) => lane.valid)) return;
  asking = new AbortController();
  busy(true);
  write(byId("difference"), "");
  write(byId("status"), "Thinking.");
  const temperature = byId("temperature").valueAsNumber;
  const body = {
    messages: [{ role: "user", content: question.value.trim() }],
    ...(Number.isFinite(temperature) && { temperature }),
  };
  const outcomes = await Promise.all(lanes.map((lane) => lane.ask(body, asking.signal)));
  asking = null;
  busy(false);
  const difference = lanes.length === 2 ? compared(lanes) : "";
  write(byId("difference"), difference);
  write(byId("status"), [...outcomes, difference].join(" ").trim());
  if (lanes.some((lane) => lane.error?.status === 401)) byId("keys").open = true;
  await strip.update();
}

function busy(yes) {
  const [ends, next] = yes ? [byId("send"), byId("stop")] : [byId("stop"), question];
  const hadFocus = document.activeElement === ends;
  byId("send").disabled = yes;
  byId("stop").disabled = !yes;
  sideBySide.disabled = yes;
  if (hadFocus) next.focus(); // a button that is disabled would lose it to the top of the page
}

/** Give all bars one scale, so that they can be compared. */
function rescale() {
  const answers = lanes.flatMap((lane) => lane.answer ?? []);
  lanesRoot.style.setProperty("--scale", scaleOf(answers));
}
