// Times and counts as people write them, in the language of the browser.

const DAY_MS = 86_400_000;
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const shortWeekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const dayMonth = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const fullDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const complete = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** Number of the local day of a Unix second. */
export function dayOf(seconds) {
  const date = new Date(seconds * 1000);
  return Math.round(new Date(date.getFullYear(), date.getMonth(), date.getDate(), 12).getTime() / DAY_MS);
}

const daysAgo = (seconds) => dayOf(Date.now() / 1000) - dayOf(seconds);

export const clock = (seconds) => time.format(seconds * 1000);

export const moment = (seconds) => complete.format(seconds * 1000);

/** Heading of a day in a conversation. */
export function dayName(seconds) {
  const days = daysAgo(seconds);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days < 7) return weekday.format(seconds * 1000);
  return (days < 300 ? longDay : fullDay).format(seconds * 1000);
}

/** A time in the list: as short as it can be understood. */
export function shortTime(seconds) {
  if (!seconds) return "";
  const days = daysAgo(seconds);
  if (days <= 0) return clock(seconds);
  if (days < 7) return shortWeekday.format(seconds * 1000);
  return dayMonth.format(seconds * 1000);
}

/** When somebody was here last. */
export function lastSeen(seconds) {
  if (!seconds) return "offline";
  const minutes = Math.round((Date.now() / 1000 - seconds) / 60);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${relative.format(-minutes, "minute")}`;
  if (minutes < 60 * 24) return `last seen ${relative.format(-Math.round(minutes / 60), "hour")}`;
  return `last seen ${relative.format(-Math.round(minutes / 1440), "day")}`;
}

/** The server counts unread messages to 100. */
export const unread = (count) => (count > 99 ? "99+" : String(count));

export const members = (count) => (count === 1 ? "1 member" : `${count} members`);
