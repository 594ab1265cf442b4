/** The bar: thinking step by step, the exit, the answer, and what the base model would have gone on to use. */

import { element, write } from "./dom.js";
import { count, percent, whole } from "./format.js";

const SMALLEST_SCALE = 64;
const SOURCES = {
  calibrated: "calibrated mean of the base model",
  shadow: "measured on the base model",
};

export const EXITS = {
  model: "the model stopped thinking by itself",
  confidence: "a trial answer was confident enough",
  step_budget: "the step budget was used up",
  token_budget: "the token budget was used up",
  repetition: "the model repeated itself",
  length: "the token limit came first",
  eos: "the model ended inside its thinking",
  stop: "a stop string came first",
  abort: "the request was cut off",
  none: "the model did not think",
};

/** Tokens that a full-width bar stands for: the longest known answer, or while it is open, the next doubling. */
export function scaleOf(answers) {
  let scale = 0;
  for (const answer of answers) {
    const baseline = answer.report?.baseline.completion_tokens ?? 0;
    let end = Math.max(answer.tokens, baseline);
    if (!answer.report) for (end = SMALLEST_SCALE; end < answer.tokens; ) end *= 2;
    scale = Math.max(scale, end);
  }
  return scale || SMALLEST_SCALE;
}

export class Bar {
  /** @param {HTMLElement} root the `.meter` of a lane */
  constructor(root) {
    this.track = root.querySelector(".track");
    this.caption = root.querySelector(".caption");
    this.segments = [];
  }

  /** @param {import("./answer.js").Answer} answer */
  show(answer) {
    const { report } = answer;
    const baseline = report?.baseline.completion_tokens ?? null;
    const wanted = answer.steps.map((step) => ["thought", step.tokens]);
    if (answer.steps.length > 0 && report) wanted.push(["exit", 0]);
    if (answer.answerTokens > 0) wanted.push(["answered", answer.answerTokens]);
    if (baseline > answer.tokens) wanted.push(["saved", baseline - answer.tokens]);
    this.#draw(wanted);
    write(this.caption, report ? this.#words(answer, baseline) : "");
    this.track.setAttribute("aria-label", this.#label(answer, baseline));
  }

  #draw(wanted) {
    while (this.segments.length > wanted.length) this.segments.pop().remove();
    wanted.forEach(([kind, tokens], index) => {
      if (!this.segments[index]) this.segments.push(this.track.appendChild(element("span")));
      const segment = this.segments[index];
      if (segment.className !== kind) segment.className = kind;
      segment.style.setProperty("--tokens", tokens);
    });
  }

  #words(answer, baseline) {
    const { exit } = answer.report;
    const where = exit.step > 0 ? `Exit after step ${exit.step}` : "No thinking";
    const why = EXITS[exit.reason] ?? exit.reason;
    const against = baseline === null ? "" : ` Baseline ${whole(baseline)}: ${SOURCES[answer.report.baseline.source]}.`;
    return `${where}: ${why}.${against}`;
  }

  #label(answer, baseline) {
    const used = `${count(answer.reasoningTokens, "thinking token")} in ${count(answer.steps.length, "step")}, ` +
      `${count(answer.answerTokens, "answer token")}`;
    if (baseline === null) return used;
    return `${used}; baseline ${whole(baseline)} tokens, ${percent(1 - answer.tokens / baseline)} saved`;
  }
}
