// What must survive a reload: unsent messages, by their client id. Owns the database; falls back to localStorage where a
// browser has no IndexedDB (private windows of some).

const NAME = "gochat";
const TABLE = "unsent";
const FALLBACK = "gochat.unsent";

export class Shelf {
  #database = open().catch(() => null);

  /** All records of a user, oldest first. */
  async all(userId) {
    const records = await this.#run("readonly", (table) => table.getAll(), () => Object.values(readFallback()));
    return records.filter((record) => record.userId === userId).sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  /** Resolves when the record is safe. */
  put(record) {
    return this.#run("readwrite", (table) => table.put(record), () => {
      writeFallback({ ...readFallback(), [record.clientMsgId]: record });
    });
  }

  remove(clientMsgId) {
    return this.#run("readwrite", (table) => table.delete(clientMsgId), () => {
      const records = readFallback();
      delete records[clientMsgId];
      writeFallback(records);
    });
  }

  async #run(mode, ask, fallback) {
    const database = await this.#database;
    if (!database) return fallback();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(TABLE, mode);
      const request = ask(transaction.objectStore(TABLE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }
}

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "clientMsgId" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function readFallback() {
  try {
    return JSON.parse(localStorage.getItem(FALLBACK)) ?? {};
  } catch {
    return {};
  }
}

const writeFallback = (records) => localStorage.setItem(FALLBACK, JSON.stringify(records));
