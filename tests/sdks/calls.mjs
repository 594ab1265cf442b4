// Makes every call of calls.json with the OpenAI Node SDK: node calls.mjs CALLS URL MODEL. Prints what came back as JSON.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const [file, baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Tom has 12 apples and buys 7 more. How many apples does Tom have?" }];

async function made({ call, body, extra, argument }) {
  const path = call.split(".");
  const method = path.pop();
  const resource = path.reduce((parent, name) => parent[name], client);
  const chat = path[0] === "chat" ? { messages } : {};
  const sends = method === "create";
  const result = await resource[method](...(sends ? [{ model, ...chat, ...body, ...extra }] : [argument].filter(Boolean)));
  if (!body?.stream) return result;
  const chunks = [];
  for await (const chunk of result) chunks.push(chunk);
  return chunks;
}

const outcomes = {};
for (const [name, call] of Object.entries(JSON.parse(readFileSync(file)))) {
  try {
    outcomes[name] = await made(call);
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, type, param } = error;
    outcomes[name] = { error: error.constructor.name, status, code, type, param };
  }
}
console.log(JSON.stringify(outcomes));
