/** One column: which model, with which exit control, and what it answered. */

import { Answer } from "./answer.js";
import { ApiError } from "./api.js";
import { Bar } from "./bar.js";
import { element, write } from "./dom.js";
import { count, percent, whole } from "./format.js";

export class Lane {
  /**
   * @param {string} name what its heading says
   * @param {() => void} changed called whenever its answer has changed
   */
  constructor(name, changed) {
    const template = document.getElementById("lane");
    this.root = template.content.cloneNode(true).firstElementChild;
    this.name = name;
    this.changed = changed;
    this.targets = [];
    this.answer = null;
    this.model = null; // of the answer: another may have been chosen since
    this.frame = 0;
    this.find = (selector) => this.root.querySelector(selector);
    this.bar = new Bar(this.find(".meter"));
    this.#label();
    this.#switch(".budget");
    this.#switch(".early");
  }

  /** Offer models: `targets` are `{server, model, markers}`; `chosen` is the index of the first choice. */
  offer(targets, chosen) {
    const select = this.find(".model");
    const groups = Map.groupBy(targets, (target) => target.server.origin);
    const several = groups.size > 1;
    const options = [...groups].flatMap(([origin, members]) => {
      const made = members.map((target) => element("option", { value: targets.indexOf(target) }, target.model));
      return several ? [element("optgroup", { label: origin }, ...made)] : made;
    });
    this.targets = targets;
    select.replaceChildren(...options);
    select.value = String(Math.min(chosen, targets.length - 1));
  }

  get target() {
    return this.targets[Number(this.find(".model").value)] ?? null;
  }

  /** Whether all that was typed into its controls fits. */
  get valid() {
    return [...this.root.querySelectorAll("input")].every((input) => input.disabled || input.reportValidity());
  }

  /** The request fields of its exit controls. */
  get controls() {
    const budget = this.find(".budget input[type=number]");
    const early = this.find(".early input[type=number]");
    return {
      ...(!budget.disabled && { max_reasoning_steps: budget.valueAsNumber }),
      ...(!early.disabled && { early_exit: { policy: "confidence", threshold: early.valueAsNumber } }),
    };
  }

  /** Ask, and show the answer as it comes; returns how it ended, in words (none for an error, an alert by itself). */
  async ask(body, signal) {
    const { server, model, markers } = this.target;
    const { controls } = this;
    this.model = model;
    this.answer = new Answer(markers);
    this.#begin();
    try {
      for await (const chunk of server.chat({ ...body, ...controls, model }, signal)) {
        this.answer.add(chunk);
        this.#schedule();
      }
      this.#note(this.#missed(controls));
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#end();
    }
    return this.#outcome();
  }

  #begin() {
    this.error = null;
    this.stopped = false;
    this.root.classList.add("asked");
    this.root.setAttribute("aria-busy", "true");
    this.find(".steps").replaceChildren();
    this.#note("");
    write(this.find(".error"), "");
    this.#schedule();
  }

  #end() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.root.removeAttribute("aria-busy");
    this.#show();
    this.changed();
  }

  #failed(error) {
    if (error.name === "AbortError") {
      this.stopped = true;
      this.#note("Stopped. What had come is shown.");
    } else {
      this.error = error instanceof ApiError ? error : new ApiError(`This page failed: ${error.message}`);
      write(this.find(".error"), this.error.message);
    }
  }

  #schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.#show();
      this.changed();
    });
  }

  #show() {
    const { answer } = this;
    this.#showSteps(answer.steps);
    write(this.find(".answer"), answer.text.trim());
    write(this.find(".tokens"), whole(answer.tokens));
    write(this.find(".count"), whole(answer.steps.length));
    write(this.find(".ratio"), this.#saved());
    this.find(".ratio").classList.toggle("unknown", answer.report?.savings_ratio == null);
    this.bar.show(answer);
  }

  #showSteps(steps) {
    const list = this.find(".steps");
    steps.forEach((step, index) => {
      const item = list.children[index] ?? list.appendChild(stepElement(index + 1));
      const text = step.text.trim();
      const marked = step.marker ?? "";
      write(item.querySelector("mark"), marked);
      write(item.querySelector(".thought"), text.slice(marked.length));
      write(item.querySelector(".cost"), count(step.tokens, "token"));
    });
  }

  #saved() {
    const ratio = this.answer.report?.savings_ratio ?? null;
    return ratio === null ? "–" : percent(ratio);
  }

  /** A server that knows nothing of a step budget ignores it silently; the page does not. */
  #missed(controls) {
    const budget = controls.max_reasoning_steps;
    return budget && this.answer.steps.length > budget ? `This server did not keep to ${count(budget, "step")}.` : "";
  }

  #note(text) {
    write(this.find(".note"), text);
  }

  #outcome() {
    if (this.error) return "";
    if (this.stopped) return `${this.name}: stopped.`;
    const { answer } = this;
    const saved = answer.report?.savings_ratio == null ? "" : `, ${this.#saved()} saved`;
    return `${this.name}: ${count(answer.steps.length, "step")}, ${count(answer.tokens, "token")}${saved}. ` +
      answer.text.trim();
  }

  #label() {
    const heading = this.find("h2");
    heading.textContent = this.name;
    heading.id = `lane-${this.name.replaceAll(" ", "-")}`;
    this.root.setAttribute("aria-labelledby", heading.id);
  }

  #switch(selector) {
    const toggle = this.find(`${selector} input[role=switch]`);
    const value = this.find(`${selector} input[type=number]`);
    toggle.addEventListener("change", () => {
      value.disabled = !toggle.checked;
    });
  }
}

/** Tokens of two finished answers to one question, in words; nothing as long as they can't be compared. */
export function compared(lanes) {
  if (!lanes.every((lane) => lane.answer?.finish && !lane.error && !lane.stopped)) return "";
  const [first, second] = lanes.map((lane) => lane.model);
  const names = first === second ? lanes.map((lane) => lane.name) : [first, second];
  const tokens = lanes.map((lane) => lane.answer.tokens);
  const figures = `Tokens for this question: ${names[0]} ${whole(tokens[0])}, ${names[1]} ${whole(tokens[1])}.`;
  if (tokens[0] === tokens[1]) return `${figures} No difference.`;
  const less = tokens[0] < tokens[1] ? 0 : 1;
  return `${figures} ${names[less]} took ${percent(1 - tokens[less] / tokens[1 - less])} fewer.`;
}

function stepElement(number) {
  return element(
    "li",
    {},
    element("p", { class: "label" }, `Step ${number}`, element("span", { class: "cost" })),
    element("p", { class: "text" }, element("mark"), element("span", { class: "thought" })),
  );
}
