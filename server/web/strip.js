/** The live strip: tokens per answer of every served model, from `/v1/efficiency`, and how they moved. */

import { element, write } from "./dom.js";
import { count, percent, tenth } from "./format.js";

const EVERY = 3000; // milliseconds
const POINTS = 40;
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [120, 28];

export class Strip {
  /**
   * @param {HTMLElement} root the list that shows the models
   * @param {import("./api.js").Server} server
   */
  constructor(root, server) {
    this.root = root;
    this.server = server;
    this.rows = new Map();
    this.refused = false; // nobody asks again until there is another key
  }

  /** Ask now and then every few seconds, as long as the page is seen. */
  async run() {
    for (;;) {
      if (!document.hidden && !this.refused) await this.update();
      await new Promise((wake) => setTimeout(wake, EVERY));
    }
  }

  async update() {
    let models;
    try {
      models = await this.server.efficiency();
      this.refused = false;
    } catch (error) {
      this.refused = error.status === 401;
      this.#explain(error.status === 404 ? "This server does not report its efficiency." : error.message);
      return;
    }
    this.#explain("");
    for (const model of models) this.#row(model.model).show(model);
  }

  #row(name) {
    if (!this.rows.has(name)) {
      const row = new Row(name);
      this.rows.set(name, row);
      this.root.append(row.root);
    }
    return this.rows.get(name);
  }

  #explain(text) {
    write(document.getElementById("live-note"), text);
  }
}

class Row {
  constructor(name) {
    this.mean = element("strong", { class: "mean" });
    this.details = element("span", { class: "details" });
    this.line = document.createElementNS(SVG, "polyline");
    this.last = null;
    this.points = [];
    const chart = document.createElementNS(SVG, "svg");
    chart.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    chart.setAttribute("preserveAspectRatio", "none");
    chart.setAttribute("aria-hidden", "true");
    chart.append(this.line);
    this.root = element("li", {}, element("span", { class: "name" }, name), this.mean, chart, this.details);
  }

  /** @param model one entry of `/v1/efficiency` */
  show(model) {
    const mean = meanOf(model.tokens_per_answer?.completion);
    write(this.mean, mean === null ? "no answer yet" : `${tenth(mean)} tokens per answer`);
    write(this.details, details(model));
    if (mean !== null) this.#draw(model.answers, mean);
  }

  /** One more point: the mean of the answers since the last one. */
  #draw(answers, mean) {
    const total = answers * mean;
    const before = this.last ?? { answers: 0, total: 0 };
    if (answers < before.answers) this.points = []; // the server was started again
    else if (answers === before.answers) return;
    const since = answers < before.answers ? { answers: 0, total: 0 } : before;
    this.points.push((total - since.total) / (answers - since.answers));
    this.points = this.points.slice(-POINTS);
    this.last = { answers, total };
    const top = Math.max(1, ...this.points) * 1.5;
    const shown = this.points.length === 1 ? [this.points[0], this.points[0]] : this.points;
    const at = (value, index) => `${(index / (shown.length - 1)) * WIDTH},${HEIGHT * (1 - value / top)}`;
    this.line.setAttribute("points", shown.map(at).join(" "));
  }
}

function details(model) {
  const steps = meanOf(model.steps_per_answer);
  const saved = Object.entries(model.savings ?? {}).filter(([, each]) => each.savings_ratio != null);
  return [
    count(model.answers, "answer"),
    ...(steps === null ? [] : [`${tenth(steps)} steps each`]),
    ...saved.map(([source, each]) => `${percent(each.savings_ratio)} saved (${source}${interval(each.ci95)})`),
  ].join(" · ");
}

function interval(bounds) {
  return bounds ? `, 95 % interval ${percent(bounds[0])} to ${percent(bounds[1])}` : "";
}

/** A mean, whether the server gives it alone or among other statistics. */
function meanOf(value) {
  return value?.mean ?? (typeof value === "number" ? value : null);
}
