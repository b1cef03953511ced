// One whole and one streamed answer by OpenAI's own client. Environment: BASE_URL, API_KEY, MODEL, PROMPT.
// Prints {whole, streamed, usage, chunks, error} as JSON.
import OpenAI from "openai";

const { BASE_URL, API_KEY, MODEL, PROMPT } = process.env;
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0 });
const request = { model: MODEL, messages: [{ role: "user", content: PROMPT }] };

const whole = await client.chat.completions.create(request);

const stream = await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
let streamed = "";
let usage = null;
let chunks = 0;
for await (const chunk of stream) {
  chunks += 1;
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

let error = null;
try {
  await client.chat.completions.create({ ...request, model: "nosuch" });
} catch (caught) {
  error = { name: caught.constructor.name, status: caught.status, code: caught.code, type: caught.type, requestID: caught.requestID };
}

console.log(JSON.stringify({ whole: whole.choices[0].message.content, streamed, usage, chunks, error }));
