/** One OpenAI-compatible server, spoken to with fetch. */

import { keyFor } from "./keys.js";

export class ApiError extends Error {
  /**
   * @param {string} message what to show
   * @param {number} status HTTP status; 0 where there was no answer at all
   */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export class Server {
  /** @param {string} url where the server's `v1/` begins */
  constructor(url) {
    this.url = new URL(url.endsWith("/") ? url : `${url}/`);
    this.ours = false;
  }

  get origin() {
    return this.url.origin;
  }

  /** What a server of this kind tells its page; nothing where the server is of another kind. */
  async page() {
    try {
      const page = await this.#json("web/page.json");
      this.ours = true;
      return page;
    } catch {
      return {};
    }
  }

  /** The names that the server serves. */
  async models() {
    const { data } = await this.#json("v1/models");
    return data.map((model) => model.id);
  }

  /** The totals of every served model. */
  async efficiency() {
    const { data } = await this.#json("v1/efficiency");
    return data;
  }

  /** Ask for a streamed chat completion, with the text of each token where the server can tell; yields its chunks. */
  async *chat(body, signal) {
    const response = await this.#request("v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        ...body,
        ...(this.ours && { logprobs: true }),
        stream: true,
        stream_options: { include_usage: true, continuous_usage_stats: true },
      }),
      signal,
    });
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message ?? "The server failed.", 500);
      yield chunk;
    }
    throw new ApiError("The connection ended before the answer did. Ask again.");
  }

  async #json(path) {
    return (await this.#request(path)).json();
  }

  async #request(path, options = {}) {
    const key = keyFor(this.origin);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    let response;
    try {
      response = await fetch(new URL(path, this.url), { ...options, headers, credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(unreachable(this.origin));
    }
    if (!response.ok) throw new ApiError(await refusal(response, Boolean(key)), response.status);
    return response;
  }
}

function unreachable(origin) {
  const own = origin === location.origin;
  const hint = own ? "Is it still running?" : `Is it running, with --allowed-origins '["${location.origin}"]'?`;
  return `No answer from ${origin}. ${hint}`;
}

async function refusal(response, withKey) {
  if (response.status === 401) {
    return withKey ? "The server does not accept this API key." : "This server needs an API key.";
  }
  const wait = Number(response.headers.get("Retry-After"));
  const again = wait > 0 ? ` Try again in ${wait} s.` : "";
  try {
    const { error } = await response.json();
    return `${error.message}${again}`;
  } catch {
    return `The server answered with status ${response.status}.${again}`;
  }
}

/** The data of every server-sent event of a stream. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await read(reader);
      if (done) return;
      buffer += value.replaceAll("\r", "");
      const complete = buffer.split("\n\n");
      buffer = complete.pop();
      for (const event of complete) {
        const lines = event.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length > 0) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // leaves the server, whether the reader is done or not
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The connection broke before the answer ended. Ask again.");
  }
}
