// The OpenAI Node SDK: a stream, exit control, and the report on its last chunk.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.STEPGRPO_URL ?? "http://127.0.0.1:8000"}/v1`,
  apiKey: process.env.STEPGRPO_API_KEY ?? "none",
});
const { data } = await client.models.list();
const stream = await client.chat.completions.create({
  model: data[0].id,
  messages: [
    { role: "user", content: "Leo has 12 stamps. In January 7 more are bought. In February 5 are sold. How many stamps does Leo have now?" },
  ],
  stream: true,
  max_reasoning_steps: 4, // the Node SDK sends fields that it does not know as they are
});
let report;
for await (const chunk of stream) {
  for (const choice of chunk.choices) {
    process.stdout.write(choice.delta.reasoning ?? choice.delta.content ?? "");
    report = choice.reasoning_efficiency ?? report;
  }
}
console.log(`\n${JSON.stringify(report)}`);
