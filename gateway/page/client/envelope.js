// One HTTP request and its envelope. Owns how an answer becomes data or a Failure; knows nothing of sessions.

import { Failure } from "./errors.js";

const TIMEOUT_MS = 20_000;

/** The `data` of a success; throws a Failure otherwise. */
export async function fetchEnvelope(method, path, { body, headers = {}, signal } = {}) {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), TIMEOUT_MS);
  signal?.addEventListener("abort", () => timeout.abort(), { once: true });
  let answer, envelope;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: timeout.signal,
    });
    envelope = await answer.json();
  } catch {
    // Not JSON: something between us and the server answered, or nobody did.
    throw new Failure(answer?.status >= 500 ? "SERVICE_UNAVAILABLE" : "NETWORK", { status: answer?.status });
  } finally {
    clearTimeout(timer);
  }
  if (envelope.success) return envelope.data ?? {};
  const retryAfter = envelope.details?.retryAfter ?? (Number(answer.headers.get("Retry-After")) || undefined);
  throw new Failure(envelope.code, { status: answer.status, details: envelope.details, retryAfter });
}
