/** One answer while it streams: its steps, its text, its tokens and, at the end, the server's report. */

import { StepSplitter } from "./steps.js";

/** UTF-16 units at most of a character that several tokens make up, so that none of them shows it. */
const LONGEST_CHARACTER = 8;

export class Answer {
  /** @param {string[]} markers what opens a step */
  constructor(markers) {
    this.splitter = new StepSplitter(markers);
    this.text = "";
    this.tokens = 0;
    this.finish = null;
    /** `choices[0].reasoning_efficiency`; null until the answer ends, and from servers that report none. */
    this.report = null;
  }

  get steps() {
    return this.splitter.steps;
  }

  get reasoningTokens() {
    return this.report?.tokens.reasoning ?? this.splitter.tokens;
  }

  get answerTokens() {
    return this.tokens - this.reasoningTokens;
  }

  /** Take in a chunk of the stream. */
  add(chunk) {
    const choice = chunk.choices?.[0];
    const delta = choice?.delta ?? {};
    const thinking = delta.reasoning ?? delta.reasoning_content ?? "";
    const used = chunk.usage?.completion_tokens ?? this.tokens + (thinking || delta.content ? 1 : 0);
    if (thinking) this.#think(thinking, used - this.tokens, choice.logprobs?.content ?? []);
    if (delta.content) {
      this.splitter.close();
      this.text += delta.content;
    }
    this.tokens = used;
    if (choice?.finish_reason) this.#finished(choice);
  }

  /** A busy server sends several tokens in one chunk: their own texts, where it gives them, tell where each begins. */
  #think(text, tokens, scored) {
    let at = 0;
    let untold = 0; // without a text in the chunk, as a tag has none; counted where the next one begins
    for (const { token } of scored) {
      untold++;
      const found = token ? text.indexOf(token, at) : -1;
      if (found < 0 || found > at + LONGEST_CHARACTER) continue;
      this.splitter.feed(text.slice(at, found + token.length), untold);
      at = found + token.length;
      tokens -= untold;
      untold = 0;
    }
    this.splitter.feed(text.slice(at), tokens);
  }

  #finished(choice) {
    this.splitter.close();
    this.finish = choice.finish_reason;
    this.report = choice.reasoning_efficiency ?? null;
    const last = this.steps.at(-1);
    // A closing tag has no text here, so only the report tells its token; it belongs to the step it ends.
    if (this.report && last) last.tokens += this.report.tokens.reasoning - this.splitter.tokens;
  }
}
