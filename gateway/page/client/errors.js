// What went wrong, in words for people. Owns the sentence for every code of the contract; codes are never shown.

const SENTENCES = {
  INVALID_PARAMS: "Something in there is not valid. Please check it and try again.",
  MISSING_QUERY: "Type what to look for.",
  UNAUTHORIZED: "Please sign in again.",
  INVALID_TOKEN_FORMAT: "Please sign in again.",
  INVALID_TOKEN: "You were signed out. Please sign in again.",
  TOKEN_EXPIRED: "You were signed out. Please sign in again.",
  TOKEN_REUSED: "You were signed out for safety: your session was used in two places. Please sign in again.",
  AUTH_FAILED: "You were signed out. Please sign in again.",
  AUTH_INVALID_CREDENTIALS: "This name and password do not belong together.",
  FORBIDDEN: "You may not do this.",
  GUEST_FORBIDDEN: "Guests cannot do this. Create an account to use everything.",
  GUEST_DISABLED: "This server does not take guests.",
  NOT_CONVERSATION_MEMBER: "You are not in this conversation.",
  INSUFFICIENT_PERMISSION: "You do not have the role that is needed for this.",
  MUTED: "You are muted here and cannot write for now.",
  BLOCKED: "You cannot reach this person.",
  NOT_FOUND: "This does not exist any more.",
  USER_NOT_FOUND: "There is no such person.",
  MESSAGE_NOT_FOUND: "This message does not exist any more.",
  CONVERSATION_NOT_FOUND: "This conversation does not exist any more.",
  FRIEND_REQUEST_NOT_FOUND: "This request does not exist any more.",
  NOT_FRIENDS: "You are not friends.",
  USER_ALREADY_EXISTS: "This name is taken. Try another one.",
  INVALID_USERNAME: "Names have 3 to 20 letters, digits, dots, dashes or underscores.",
  WEAK_PASSWORD: "Choose a password of 6 to 50 characters.",
  USER_DISABLED: "This account is locked. Ask whoever runs this server.",
  INVALID_MESSAGE: "This message could not be sent as it is.",
  MESSAGE_TOO_LARGE: "This message is too long.",
  MESSAGE_EMPTY: "There is nothing to send.",
  UNSUPPORTED_MESSAGE_TYPE: "This kind of message cannot be sent.",
  MESSAGE_RECALLED: "This message was already recalled.",
  RECALL_TIME_EXCEEDED: "It is too late to recall this message.",
  CONVERSATION_FULL: "This group is full.",
  CONVERSATION_DISSOLVED: "This group was dissolved.",
  USER_ALREADY_IN_CONVERSATION: "Already in the group.",
  INVALID_CONVERSATION_NAME: "Choose a name of 1 to 100 characters.",
  CANNOT_LEAVE_CONVERSATION: "You cannot leave this. As the owner, hand the group to somebody else first.",
  VERSION_CONFLICT: "Somebody else changed this meanwhile. Look at it once more, then try again.",
  FRIEND_REQUEST_ALREADY_EXISTS: "You have asked already.",
  ALREADY_FRIENDS: "You are friends already.",
  CANNOT_ADD_SELF_AS_FRIEND: "That is you.",
  FRIEND_REQUEST_ALREADY_HANDLED: "This request was answered already.",
  CLIENT_MSG_ID_REUSED: "This message could not be sent. Try again.",
  RATE_LIMITED: "That was a bit fast. Wait a moment, then try again.",
  INTERNAL_ERROR: "The server has a problem. Try again in a moment.",
  SERVICE_UNAVAILABLE: "The server is busy. Try again in a moment.",
  TIMEOUT: "The server took too long to answer. Try again.",
  NETWORK: "The server cannot be reached. Check your connection.",
};

const TRANSIENT = new Set(["NETWORK", "RATE_LIMITED", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"]);

/** The sentence for a code. */
export const sentence = (code) => SENTENCES[code] ?? "That did not work. Try again.";

/** Whether the same request may well succeed later. */
export const isTransient = (code) => TRANSIENT.has(code);

/** A refusal of the server, or no answer at all. `message` is for people. */
export class Failure extends Error {
  constructor(code, { status = 0, details = {}, retryAfter } = {}) {
    super(code === "RATE_LIMITED" && retryAfter ? `That was a bit fast. Try again in ${seconds(retryAfter)}.` : sentence(code));
    this.code = code;
    this.status = status;
    this.details = details;
    this.retryAfter = retryAfter;
    this.isTransient = isTransient(code);
  }
}

/** For people, whatever was thrown. */
export const explain = (error) => (error instanceof Failure ? error.message : "That did not work. Try again.");

function seconds(number) {
  return number === 1 ? "a second" : number < 90 ? `${number} seconds` : `${Math.ceil(number / 60)} minutes`;
}
