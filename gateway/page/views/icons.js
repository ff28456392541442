// Pictograms, drawn as lines on a 24 × 24 grid. Decoration only: what they mean is said in words beside them.

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4",
  send: "M4 12l16-8-6 16-3-7-7-1z",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14a6.5 6.5 0 0 1 3.5 6",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5a7.5 7.5 0 0 1 15 0",
  chat: "M5 4h14a2 2 0 0 1 2 2v9a2 2 0 0 1-2 2h-7l-5 4v-4H5a2 2 0 0 1-2-2V6a2 2 0 0 1 2-2z",
  globe: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM3.5 9.5h17M3.5 14.5h17M12 3c5 5.5 5 12.5 0 18M12 3c-5 5.5-5 12.5 0 18",
  down: "M12 5v14M6 13l6 6 6-6",
  check: "M5 13l4.5 4.5L19 7",
  checks: "M2.5 13l4.5 4.5L16 7.5M11.5 16.5l1 1L22 7.5",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3.5 2",
  alert: "M12 8v5M12 16.5h.01M12 3l9.5 17h-19z",
  block: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM5.7 5.7l12.6 12.6",
  mute: "M5 9h3l5-4v14l-5-4H5zM17 9.5l4 5M21 9.5l-4 5",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.5h.01",
  retry: "M4.5 12a7.5 7.5 0 1 1 2.3 5.4M4 20v-5h5",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  undo: "M9 14L4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  out: "M10 4H5v16h5M15 8l4 4-4 4M19 12H9",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  addPerson: "M10 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM2.5 20.5a7.5 7.5 0 0 1 12-6M18 14v6M15 17h6",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  plug: "M9 3v5M15 3v5M6 8h12v3a6 6 0 0 1-12 0zM12 17v4",
  edit: "M4 20h4L19 9l-4-4L4 16z",
  crown: "M4 18h16M4 15l-1-8 5 3.5L12 5l4 5.5L21 7l-1 8z",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon icon-${name}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
