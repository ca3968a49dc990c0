// The service as this page uses it: its models, its answers, and the curl command that asks the same.

import { apiKey } from "./key.js";

const ROOT = new URL("..", import.meta.url); // this file is <root>/ui/api.js
const IMAGES_A_REQUEST = 64; // so that answers come bit by bit
const BYTES_A_REQUEST = 3 * 2 ** 20; // over 4 Mbit/s within the 8 s that the service waits
const MOST_MS = 30_000; // more than the service takes for anything

const GARBLED = { message: "This answer is not of the service: something stands between it and this page." };

// An answer that is none: `message` is the service's own sentence, or ours where it could not be asked.
export class Refusal extends Error {
  constructor({ code = "", message, details = [] }, { mayPass = false, timing = null } = {}) {
    super(message);
    this.code = code;
    this.details = details; // one {error} for each picture, where all of several were refused
    this.mayPass = mayPass; // whether the same request may be answered later
    this.timing = timing;
  }
}

export async function fetchModels() {
  return (await ask(new URL("models", ROOT))).body;
}

// What asks about a drawing, given as a data URL.
export function drawingRequest(query, dataUrl) {
  const url = predictUrl(query);
  const type = "application/json";
  const bodyOf = (image) => JSON.stringify({ images: [image] });
  const curlOf = (body) => `curl ${quote(url.href)}${curlKey()} -H ${quote(`content-type: ${type}`)} -d ${quote(body)}`;
  const body = bodyOf(dataUrl);
  return {
    url,
    init: { method: "POST", headers: { "content-type": type }, body },
    curl: curlOf(body),
    curlInShort: curlOf(bodyOf(`${dataUrl.slice(0, 40)}…`)), // to be read, not run
  };
}

// What asks about several files at once.
export function filesRequest(query, files) {
  const url = predictUrl(query);
  const form = new FormData();
  for (const file of files) form.append("image", file, file.name);
  const fields = files.map((file) => `-F ${quote(`image=@${curlPath(file.name)}`)}`);
  const curl = `curl ${fields.join(" ")} ${quote(url.href)}${curlKey()}`;
  return { url, init: { method: "POST", body: form }, curl, curlInShort: curl };
}

// Ask, and return {model, version, predictions, timing}; throws a Refusal.
export async function predict({ url, init }) {
  const { body, timing } = await ask(url, init);
  if (!Array.isArray(body.predictions)) throw new Refusal(GARBLED, { mayPass: true });
  return { ...body, timing };
}

// Cut a list of files into requests of at most so many images, and of no more than goes through in time.
export function portions(items, sizeOf, maxImages) {
  const most = Math.min(maxImages, IMAGES_A_REQUEST);
  const requests = [];
  let bytes = Infinity;
  for (const item of items) {
    bytes += sizeOf(item);
    if (bytes > BYTES_A_REQUEST || requests.at(-1).length === most) {
      requests.push([]);
      bytes = sizeOf(item);
    }
    requests.at(-1).push(item);
  }
  return requests;
}

async function ask(url, init = {}) {
  const started = performance.now();
  const key = apiKey();
  const headers = { ...init.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(url, { ...init, headers, signal: AbortSignal.timeout(MOST_MS) });
  } catch {
    const message = "The service gave no answer. Is it still running?";
    throw new Refusal({ code: "unreachable", message }, { mayPass: true });
  }
  const body = await response.json().catch(() => null); // something between us and the service may not speak JSON
  const timing = readTiming(response.headers.get("server-timing"), performance.now() - started);
  if (response.ok && body) return { body, timing };
  const error = body?.error ?? { message: `The service answered with status ${response.status} and no reason.` };
  throw new Refusal(error, { mayPass: response.status >= 500 || response.status === 408, timing });
}

// {roundTripMs, read, queue, compute, batch} of "read;dur=0.4, queue;dur=0.02, compute;dur=0.3;desc="batch of 1"".
function readTiming(header, roundTripMs) {
  const timing = { roundTripMs };
  for (const part of (header ?? "").split(",")) {
    const [name, ...parameters] = part.trim().split(";");
    const duration = parameters.find((each) => each.startsWith("dur="));
    if (duration) timing[name] = Number(duration.slice(4));
    const batch = part.match(/batch of (\d+)/);
    if (batch) timing.batch = Number(batch[1]);
  }
  return timing;
}

function predictUrl({ model, explain }) {
  const url = new URL("predict", ROOT);
  url.search = new URLSearchParams({ model, top_k: 10, pixels: true, ...(explain && { explain: true }) });
  return url;
}

// The key itself stays out of what people copy, paste and show.
function curlKey() {
  return apiKey() ? ' -H "authorization: Bearer $DIGITSERVE_API_KEY"' : "";
}

// For a POSIX shell.
function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

// curl takes a comma or a semicolon for the end of a file's name unless the name is in double quotes.
function curlPath(name) {
  return /[",;\\]/.test(name) ? `"${name.replace(/[\\"]/g, "\\$&")}"` : name;
}
