// The service's HTTP interface: requests, problem documents, uploads with progress, and a job's events.

const KEY = "mri-recon-key";
const SILENCE_MS = 45000; // the server sends something at least every 15 s
const WAITS_MS = [500, 1000, 2000, 4000, 8000];

/** An RFC 9457 problem document as an error. */
export class Problem extends Error {
  constructor(document, status) {
    super(document.detail ?? document.title ?? `status ${status}`);
    this.document = { status, title: "The service refused", code: "", detail: this.message, ...document };
  }
}

/** The server cannot be reached. */
export class Unreachable extends Error {}

let askForKey = async () => null;

/** `ask()` resolves to an API key, or null where the user has none; called when the service answers 401. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

function headersWith(headers) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...headers, Authorization: `Bearer ${key}` } : { ...headers };
}

/** fetch, with the key, and errors as Problem or Unreachable. The path is relative: a proxy may add a prefix. */
export async function request(path, { headers = {}, ...options } = {}) {
  for (;;) {
    let response;
    try {
      response = await fetch(path, { cache: "no-store", ...options, headers: headersWith(headers) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Unreachable("the server does not answer");
    }
    if (response.ok) return response;
    const problem = await problemOf(response.status, () => response.json());
    if (response.status !== 401 || !(await renewKey(problem))) throw problem;
  }
}

async function renewKey(problem) {
  const key = await askForKey(problem);
  if (!key) return false;
  sessionStorage.setItem(KEY, key);
  return true;
}

async function problemOf(status, json) {
  try {
    return new Problem(await json(), status);
  } catch {
    return new Problem({ detail: `The answer had the status ${status} and no explanation.` }, status);
  }
}

/** POST a form and report the upload; resolves to {status, headers, body} with the body as a Blob. */
export async function upload(path, form, { headers = {}, onUpload = () => {}, signal } = {}) {
  for (;;) {
    const answer = await send(path, form, headersWith(headers), onUpload, signal);
    if (answer.status >= 200 && answer.status < 300) return answer;
    const problem = await problemOf(answer.status, async () => JSON.parse(await answer.body.text()));
    if (answer.status !== 401 || !(await renewKey(problem))) throw problem;
  }
}

function send(path, form, headers, onUpload, signal) {
  // fetch does not report how much of a body is sent.
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", path);
    call.responseType = "blob";
    for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => onUpload(event.lengthComputable ? event.loaded / event.total : null);
    call.onload = () => resolve({ status: call.status, type: call.getResponseHeader("Content-Type"), body: call.response });
    call.onerror = () => reject(new Unreachable("the connection to the server broke while the scan was sent"));
    call.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => call.abort());
    call.send(form);
  });
}

/**
 * Follow a job to its end over server-sent events, which are read by fetch because EventSource cannot send a key.
 * A lost connection is taken up again behind the last event that came.
 */
export async function followJob(id, { onStatus, onProgress, onLost, onBack, signal }) {
  let lastId = null, failures = 0;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", ...(lastId === null ? {} : { "Last-Event-ID": lastId }) };
      const response = await request(`v1/jobs/${id}/events`, { headers, signal });
      if (failures) onBack();
      failures = 0;
      if (response.status === 204) return await (await request(`v1/jobs/${id}`, { signal })).json(); // it has ended
      for await (const event of events(response.body)) {
        lastId = event.id ?? lastId;
        if (event.type === "progress") onProgress(JSON.parse(event.data));
        else if (event.type === "status") onStatus(JSON.parse(event.data));
        else if (event.type === "end") return JSON.parse(event.data);
      }
      await pause(WAITS_MS[0], signal); // closed before the end: a proxy's timeout, or a restart
    } catch (error) {
      if (signal?.aborted) throw error;
      if (error instanceof Problem && error.document.status < 502) throw error;
      const wait = WAITS_MS[Math.min(failures, WAITS_MS.length - 1)];
      failures += 1;
      onLost(wait);
      await pause(wait, signal);
    }
  }
}

/** Events of a text/event-stream: {type, id, data}. Source: WHATWG HTML, server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", event = { type: "message", data: [] };
  try {
    for (;;) {
      const { done, value } = await withTimeout(reader.read(), SILENCE_MS);
      if (done) return;
      text += value;
      const lines = text.split(/\r\n|\n|\r(?!$)/);
      text = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data.length) yield { ...event, data: event.data.join("\n") };
          event = { type: "message", data: [] };
          continue;
        }
        const [, name, content] = /^([^:]*):? ?(.*)$/.exec(line);
        if (name === "event") event.type = content;
        else if (name === "data") event.data.push(content);
        else if (name === "id") event.id = content;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function withTimeout(promise, milliseconds) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Unreachable("the server went silent")), milliseconds);
  });
  return Promise.race([promise, silence]).finally(() => clearTimeout(timer));
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    });
  });
}
