/** Idempotency keys: a request that is sent again, by a double click or a retry, happens once. */

const BYTES = 16;

/** Returns what gives the same key for the same request, and a new one for another. */
export function makeOnceKeys(): (request: unknown) => string {
  let last = { body: "", key: "" };
  return (request) => {
    const body = JSON.stringify(request);
    if (body !== last.body) last = { body, key: randomKey() };
    return last.key;
  };
}

function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(BYTES)); // randomUUID needs https
  return `console-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
