/**
 * Cuts thinking into its steps while it streams, by the rules of the server's own segmenter (reasoning/segmenter.py):
 * a step begins at the start and at every standalone marker; a token counts where its first character lies.
 */

const UNSPACED =
  "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f" +
  "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{323af}";
/** One letter of a script that writes its words apart. */
const LETTER = `(?![${UNSPACED}])[\\p{L}\\p{Nl}\\p{No}]`;
const STARTS_WITH_LETTER = new RegExp(`^${LETTER}`, "u");
const ENDS_WITH_LETTER = new RegExp(`${LETTER}$`, "u");

export class StepSplitter {
  /** @param {string[]} markers what opens a step, case-sensitive */
  constructor(markers) {
    this.markers = [...new Set(markers)].sort((a, b) => b.length - a.length);
    this.pattern = markerPattern(this.markers);
    this.longest = this.markers[0]?.length ?? 0;
    /** @type {{marker: string | null, text: string, tokens: number}[]} */
    this.steps = [];
    this.decided = ""; // the last decided character, which the left edge of a marker has to see
    this.held = ""; // text that may still become a marker
    this.leading = ""; // blank text before the first step
    this.waiting = []; // tokens that start in the held text: [position in it, count]
    this.early = 0; // tokens before the first step
  }

  /** Take in the next piece of thinking, and the number of tokens that it was decoded from. */
  feed(text, tokens = 0) {
    this.waiting.push([this.held.length, tokens]);
    this.held += text;
    this.#decide(this.#undecided(0));
  }

  /** Nothing follows: what is held back is decided, and tokens without text belong to the last step. */
  close() {
    this.#decide(this.held.length);
    const last = this.steps.at(-1);
    if (last) last.tokens += this.#tokensBefore(Infinity);
  }

  /** All tokens that were fed. */
  get tokens() {
    const held = this.waiting.reduce((sum, [, count]) => sum + count, this.early);
    return this.steps.reduce((sum, step) => sum + step.tokens, held);
  }

  /** Where the first marker may stand that what follows could complete, prolong or spoil. */
  #undecided(from) {
    for (let at = Math.max(from, this.held.length - this.longest); at < this.held.length; at++) {
      const tail = this.held.slice(at);
      if (this.markers.some((marker) => marker.startsWith(tail))) return at;
    }
    return this.held.length;
  }

  #decide(until) {
    const window = this.decided + this.held;
    const shift = this.decided.length;
    const taken = this.held;
    let done = 0;
    this.pattern.lastIndex = shift;
    for (let match; (match = this.pattern.exec(window)) !== null; ) {
      const at = match.index - shift;
      if (at >= until) break;
      this.#append(taken.slice(done, at), at);
      this.#begin(match[0]);
      done = at;
      const end = at + match[0].length;
      if (end > until) until = this.#undecided(end);
    }
    this.#append(taken.slice(done, until), until);
    this.held = taken.slice(until);
    this.waiting = this.waiting.map(([at, count]) => [at - until, count]);
    if (until > 0) this.decided = Array.from(window.slice(0, shift + until)).at(-1);
  }

  #append(text, end) {
    if (this.steps.length === 0) {
      if (text.trim() === "") {
        this.leading += text;
        this.early += this.#tokensBefore(end);
        return;
      }
      this.#begin(null);
    }
    const step = this.steps.at(-1);
    step.text += text;
    step.tokens += this.#tokensBefore(end);
  }

  #begin(marker) {
    const first = this.steps.length === 0;
    this.steps.push({ marker, text: first ? this.leading : "", tokens: first ? this.early : 0 });
    if (first) this.early = 0;
  }

  #tokensBefore(end) {
    const before = this.waiting.filter(([at]) => at < end);
    this.waiting = this.waiting.filter(([at]) => at >= end);
    return before.reduce((sum, [, count]) => sum + count, 0);
  }
}

function markerPattern(markers) {
  const guarded = markers.map((marker) => {
    const before = STARTS_WITH_LETTER.test(marker) ? `(?<!${LETTER})` : "";
    const after = ENDS_WITH_LETTER.test(marker) ? `(?!${LETTER})` : "";
    return before + marker.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&") + after;
  });
  return new RegExp(guarded.join("|") || "(?!)", "gu");
}
