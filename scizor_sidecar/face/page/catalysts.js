// The list of what has happened to a company, and what a mark in the chart says of it.

import { clock } from "./format.js";
import { letterOf } from "./marks.js";

const $ = (id) => document.getElementById(id);
const MOST = 12;

/** Show events, newest first; `none` where there are none. */
export function fillCatalysts(events, none) {
  const rows = [...events].sort((a, b) => b.at - a.at).slice(0, MOST).map((event) => {
    const row = document.createElement("li");
    const letter = Object.assign(document.createElement("i"), { className: `letter${event.impact >= 7 ? " strong" : ""}`, textContent: letterOf(event.type) });
    const title = document.createElement(/^https?:/.test(event.url ?? "") ? "a" : "span");
    title.textContent = event.title;
    title.className = "text";
    if (title.tagName === "A") Object.assign(title, { href: event.url, target: "_blank", rel: "noopener noreferrer" });
    const about = Object.assign(document.createElement("span"), { className: "muted detail" });
    about.textContent = [clock(event.at, "UTC", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" }), event.type, `impact ${event.impact}`, event.sample ? "sample" : ""].filter(Boolean).join(" · ");
    row.append(letter, title, about);
    return row;
  });
  if (!rows.length) rows.push(Object.assign(document.createElement("li"), { className: "muted note", textContent: none }));
  $("catalysts").replaceChildren(...rows);
}

/** Show what the marks under the pointer stand for. */
export function showMark(found, point) {
  const box = $("mark");
  box.hidden = !found.length;
  if (!found.length) return;
  box.textContent = found.map(({ title, type, impact }) => `${title} (${type}, impact ${impact})`).join("\n");
  box.style.left = `${Math.max(8, Math.min(point.x - 110, $("plot").clientWidth - 300))}px`;
  box.style.top = `${point.y - 20}px`;
}
