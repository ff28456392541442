// How long to wait before the next try. Owns the delays of docs/protocol.md; never tries anything itself.

const RECONNECT_S = [1, 2, 4, 8, 15, 30];
const RETRY_S = [1, 2, 4, 8, 16, 30];

/** Milliseconds until reconnect number `attempt` (from 0): a random part of its delay, so that many clients spread out. */
export const reconnectDelay = (attempt) => Math.random() * at(RECONNECT_S, attempt) * 1000;

/** Milliseconds until retry number `attempt` (from 0) of a request. */
export const retryDelay = (attempt) => (0.5 + Math.random() / 2) * at(RETRY_S, attempt) * 1000;

/** Resolves after `ms`, or rejects as soon as `signal` is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(done, ms);
    function done() {
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Runs `request` until it answers; only what may heal by itself (network, 5xx, 429) is tried again. */
export async function persist(request, signal) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await request();
    } catch (error) {
      if (!error.isTransient || signal?.aborted) throw error;
      await pause(error.retryAfter ? error.retryAfter * 1000 : retryDelay(attempt), signal);
    }
  }
}

const at = (delays, attempt) => delays[Math.min(attempt, delays.length - 1)];
