"use strict";
/* Feeds and streams as text that stays current, and the chart of the chosen stream. */

const HEALTHS = [
  "dead", "stale", "waiting", "recovering", "polled", "quiet", "live", "closed",
];
const SHOWN_WANTS = 3;
const ALARMING = ["dead", "stale"];
// Of a row: symbol, timeframe, health, why, close, close_time, updated, count, gaps.
const [SYMBOL, TIMEFRAME, HEALTH, WHY, CLOSE, CLOSE_TIME, UPDATED, COUNT, GAPS] =
  Array.from({ length: 9 }, (_, number) => number);
const SORT_KEYS = {
  feed: (entry) => entry.feed,
  symbol: (entry) => entry.row[SYMBOL],
  timeframe: (entry) => spanOf(entry.row[TIMEFRAME]),
  health: (entry) => HEALTHS.indexOf(entry.row[HEALTH]),
  "last close": (entry) => entry.row[CLOSE] ?? -Infinity,
  "close time": (entry) => entry.row[CLOSE_TIME] ?? -Infinity,
  age: (entry) => entry.row[UPDATED] ?? -Infinity,
  gaps: (entry) => -entry.row[GAPS],
};

const byId = (id) => document.getElementById(id);
const entries = new Map(); // by feed, symbol and timeframe
let order = []; // the entries as they are shown
let feeds = [];
let offset = Number(document.body.dataset.now) - Date.now();
let sorting = { column: null, isReversed: false };
let isLive = false;
let liveUntil = 0;
let selected = null; // the entry that the arrow keys stand on

const now = () => Date.now() + offset;
const ageOf = (moment) => (moment === null ? null : (now() - moment) / 1000);

function spanOf(timeframe) {
  const unit = { s: 1, m: 60, h: 3600, d: 86400, w: 604800, M: 2592000 };
  return parseInt(timeframe, 10) * unit[timeframe.at(-1)];
}

function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  if (text !== "") element.textContent = text;
  if (className) element.className = className;
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/* Messages. */

function take(message) {
  offset = message.now - Date.now();
  feeds = message.feeds;
  if (message.all) forgetRows();
  for (const [feed, rows] of Object.entries(message.rows)) {
    for (const row of rows) takeRow(feed, row);
  }
  showFeeds();
  showHealths();
  arrange();
  if (message.all) openFromAddress();
}

function forgetRows() {
  entries.clear();
  order = [];
  selected = null;
  byId("rows").replaceChildren();
}

function takeRow(feed, row) {
  const id = JSON.stringify([feed, row[SYMBOL], row[TIMEFRAME]]);
  const known = entries.get(id);
  const entry = known ?? addEntry(id, feed, row);
  const hasClosed = known !== undefined && row[COUNT] > known.row[COUNT];
  entry.row = row;
  entry.text = `${feed} ${row[SYMBOL]} ${row[TIMEFRAME]} ${row[HEALTH]}`.toLowerCase();
  const { health, why, close, closeTime, gaps } = entry.cells;
  setText(health, row[HEALTH]);
  health.className = `health ${row[HEALTH]}`;
  setText(why, row[WHY]);
  setText(close, Format.number(row[CLOSE]));
  setText(closeTime, Format.time(row[CLOSE_TIME]));
  setText(gaps, Format.count(row[GAPS]));
  showAge(entry);
  if (hasClosed) flash(entry.tr);
}

function addEntry(id, feed, row) {
  const tr = make("tr");
  const button = make("button", row[SYMBOL]);
  button.type = "button";
  button.tabIndex = -1;
  const name = make("th");
  name.scope = "row";
  name.append(button);
  const health = make("span");
  const healthCell = make("td");
  const why = make("span", "", "why");
  healthCell.append(health, " ", why);
  const cells = {
    health,
    why,
    close: make("td", "", "number"),
    closeTime: make("td"),
    age: make("td", "", "number"),
    gaps: make("td", "", "number"),
  };
  tr.append(make("td", feed), name, make("td", row[TIMEFRAME]), healthCell);
  tr.append(cells.close, cells.closeTime, cells.age, cells.gaps);
  const entry = { feed, row, tr, button, cells, text: "" };
  button.addEventListener("click", () => choose(entry));
  entries.set(id, entry);
  order.push(entry);
  byId("rows").append(tr);
  return entry;
}

function flash(tr) {
  tr.classList.remove("closed-now");
  void tr.offsetWidth; // so that the animation begins again
  tr.classList.add("closed-now");
}

function showAge(entry) {
  setText(entry.cells.age, Format.age(ageOf(entry.row[UPDATED])));
}

/* Feeds. */

function showFeeds() {
  const cards = feeds.map(feedCard);
  byId("feeds").replaceChildren(...(cards.length ? cards : [make("p", "no feed")]));
  const bad = feeds.filter((feed) => ALARMING.includes(feed.health));
  const said = bad.map((feed) => `Feed ${feed.feed} is ${feed.health}.`).join(" ");
  setText(byId("alert"), said);
  const worst = HEALTHS.find((health) => feeds.some((feed) => feed.health === health));
  document.title = worst ? `${worst} · shmfeed` : "shmfeed";
}

function feedCard(feed) {
  const card = make("article", "", `feed ${feed.health}`);
  card.dataset.feed = feed.feed;
  const line = make("p");
  line.append(make("strong", feed.health, `health ${feed.health}`));
  line.append(` ${feed.state}${since(feed.state_since)}`);
  card.append(make("h2", feed.feed), line);
  const facts = make("dl");
  for (const [name, value] of feedFacts(feed)) {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", value));
    facts.append(pair);
  }
  card.append(facts);
  if (feed.relay) card.append(make("p", `relay: ${feed.relay}`));
  if (feed.last_error) card.append(make("p", `last error: ${feed.last_error}`, "error"));
  return card;
}

function since(moment) {
  return moment === null ? "" : ` for ${Format.age(ageOf(moment))}`;
}

function feedFacts(feed) {
  const { counts } = feed;
  const feeder = feed.pid === null
    ? `none${feed.writer ? `, last pid ${feed.writer}` : ""}`
    : `pid ${feed.pid}, up ${Format.age(ageOf(feed.started))}`;
  const facts = [["feeder", feeder]];
  if (feed.endpoint) facts.push(["endpoint", feed.endpoint]);
  if (feed.identity) facts.push(["identity", feed.identity]);
  if (feed.last_message !== null) {
    facts.push(["last message", `${Format.age(ageOf(feed.last_message))} ago`]);
  }
  if (feed.next_attempt !== null) {
    facts.push(["next attempt", `in ${Format.age(-ageOf(feed.next_attempt))}`]);
  }
  if (feed.clock_offset !== null) facts.push(["clock", `${feed.clock_offset} s`]);
  if (feed.wants.length) facts.push(["wanted by", some(feed.wants)]);
  const always = ["messages", "bars", "reconnects", "gaps"];
  for (const [name, count] of Object.entries(counts)) {
    if (count || always.includes(name)) facts.push([name, Format.count(count)]);
  }
  return facts;
}

function some(names) {
  const more = names.length - SHOWN_WANTS;
  const shown = names.slice(0, SHOWN_WANTS).join(", ");
  return more > 0 ? `${shown} and ${Format.count(more)} more` : shown;
}

/* Which streams are shown, and in which order. */

function showHealths() {
  const counts = new Map();
  for (const { row } of entries.values()) {
    counts.set(row[HEALTH], (counts.get(row[HEALTH]) ?? 0) + 1);
  }
  const group = byId("healths");
  const known = new Map([...group.children].map((one) => [one.dataset.health, one]));
  for (const health of HEALTHS) {
    const count = counts.get(health);
    if (!count) {
      known.get(health)?.remove();
      continue;
    }
    const button = known.get(health) ?? healthButton(health);
    setText(button, `${Format.count(count)} ${health}`);
    group.append(button);
  }
  showPressed();
}

function healthButton(health) {
  const button = make("button", "", `health ${health}`);
  button.type = "button";
  button.dataset.health = health;
  button.addEventListener("click", () => {
    byId("filter").value = byId("filter").value === health ? "" : health;
    filter();
  });
  return button;
}

function showPressed() {
  for (const button of byId("healths").children) {
    const isPressed = String(byId("filter").value === button.dataset.health);
    if (button.getAttribute("aria-pressed") !== isPressed) {
      button.setAttribute("aria-pressed", isPressed);
    }
  }
}

function filter() {
  showPressed();
  arrange();
}

function arrange() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const entry of entries.values()) {
    const isShown = words.every((word) => entry.text.includes(word));
    if (entry.tr.hidden === isShown) entry.tr.hidden = !isShown;
    shown += isShown;
  }
  byId("none").hidden = shown > 0;
  sortRows();
  if (!selected || selected.tr.hidden) select(order.find((one) => !one.tr.hidden));
}

function sortRows() {
  const sorted = [...entries.values()];
  const key = SORT_KEYS[sorting.column];
  if (key) {
    const sign = sorting.isReversed ? -1 : 1;
    sorted.sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      return left < right ? -sign : left > right ? sign : 0;
    });
  }
  if (sorted.some((entry, number) => entry !== order[number])) {
    const focused = document.activeElement;
    order = sorted;
    byId("rows").append(...sorted.map((entry) => entry.tr));
    if (focused && focused !== document.activeElement) focused.focus();
  }
}

function sortBy(head) {
  const column = head.dataset.column;
  const isReversed = sorting.column === column && !sorting.isReversed;
  sorting = { column, isReversed };
  for (const one of document.querySelectorAll("th[data-column]")) {
    one.removeAttribute("aria-sort");
  }
  head.setAttribute("aria-sort", isReversed ? "descending" : "ascending");
  sortRows();
}

/* The keyboard: one row of the table is in the order of tabs. */

function select(entry, hasFocus = false) {
  if (selected) {
    selected.button.tabIndex = -1;
    selected.tr.classList.remove("selected");
  }
  selected = entry ?? null;
  if (!selected) return;
  selected.button.tabIndex = 0;
  selected.tr.classList.add("selected");
  if (hasFocus) {
    selected.button.focus();
    selected.tr.scrollIntoView({ block: "nearest" });
  }
}

function move(steps) {
  const shown = order.filter((entry) => !entry.tr.hidden);
  const isOnRow = selected && document.activeElement === selected.button;
  const at = shown.indexOf(selected) + (isOnRow ? steps : 0);
  const target = shown[Math.min(Math.max(at, 0), shown.length - 1)];
  if (target) select(target, true);
}

function onKey(event) {
  const isTyping = event.target.tagName === "INPUT";
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 };
  const letters = { j: 1, k: -1 };
  if (event.key === "Escape") goBack(isTyping);
  else if (event.key === "/" && !isTyping) byId("filter").focus();
  else if (event.key in moves) move(moves[event.key]);
  else if (event.key in letters && !isTyping) move(letters[event.key]);
  else return;
  event.preventDefault();
}

function goBack(isTyping) {
  if (isTyping) {
    byId("filter").value = "";
    filter();
    move(0);
  } else {
    closeChart();
  }
}

/* The chart. The address names its stream, so that it can be kept and sent. */

const chart = new StreamChart(
  byId("chart-area"),
  (text) => setText(byId("chart-note"), text),
  showBars,
);

function choose(entry) {
  const { feed, row } = entry;
  const names = [feed, row[SYMBOL], row[TIMEFRAME]];
  select(entry, true);
  history.replaceState(null, "", `#${names.map(encodeURIComponent).join("/")}`);
  openFromAddress();
}

function openFromAddress() {
  const names = location.hash.slice(1).split("/").map(decodeURIComponent);
  if (names.length !== 3) return;
  const id = JSON.stringify(names);
  if (chart.stream && JSON.stringify(Object.values(chart.stream)) === id) return;
  const entry = entries.get(id);
  if (entry) select(entry);
  const [feed, symbol, timeframe] = names;
  setText(byId("chart-title"), `${symbol} ${timeframe}`);
  setText(byId("chart-price"), "");
  byId("chart").hidden = false;
  byId("chart-holes").replaceChildren();
  byId("chart").scrollIntoView({ block: "nearest" });
  chart.open(feed, symbol, timeframe);
}

function closeChart() {
  chart.close();
  byId("chart").hidden = true;
  history.replaceState(null, "", location.pathname);
  if (selected) selected.button.focus();
}

function showBars({ bars, forming, holes }) {
  const last = bars.at(-1);
  const closed = last
    ? `closed ${Format.number(last[4])} at ${Format.time(last[7])}`
    : "no closed bar";
  const open = forming ? `, now ${Format.number(forming[4])}` : "";
  setText(byId("chart-price"), closed + open);
  const items = [...holes].reverse().map((hole) => make("li", holeText(hole)));
  byId("chart-holes").replaceChildren(...items);
}

function holeText({ first, last, missing, state, reason }) {
  const words = state === "none_at_venue" ? "no bar at the venue" : state.replace("_", " ");
  const span = missing === 1
    ? `1 bar at ${Format.time(first)}`
    : `${Format.count(missing)} bars from ${Format.time(first)} to ${Format.time(last)}`;
  return `${span}: ${words}, ${reason}`;
}

/* Time passes. */

function showConnection() {
  const text = isLive
    ? "live"
    : `no connection to the dashboard${liveUntil ? since(liveUntil) : ""}; trying again`;
  setText(byId("connection"), text);
}

function setLive(value) {
  if (isLive && !value) liveUntil = now();
  isLive = value;
  document.body.classList.toggle("offline", !value);
  showConnection();
}

setInterval(() => {
  if (document.hidden) return;
  if (!isLive) showConnection();
  for (const entry of order) if (!entry.tr.hidden) showAge(entry);
}, 1000);

for (const head of document.querySelectorAll("th[data-column]")) {
  head.firstElementChild.addEventListener("click", () => sortBy(head));
}
byId("filter").addEventListener("input", filter);
byId("chart-close").addEventListener("click", closeChart);
document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", openFromAddress);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.paint());
Events.open(take, setLive);
