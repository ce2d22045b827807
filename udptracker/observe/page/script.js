"use strict";
// Asks /stats.json every two seconds and shows it. All text goes in as text: nothing the tracker heard becomes markup.

const EVERY = 2000; // milliseconds
const PATIENCE = 8000; // more than the tracker waits for workers that stand still
const ACTIONS = ["connect", "announce", "scrape"];

const $ = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const element = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const text = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };
const sum = (values) => Object.values(values).reduce((total, value) => total + value, 0);
const whole = (value) => Math.round(value).toLocaleString("en");

function short(value) {
  if (value < 100000) return whole(value);
  const [unit, name] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([least]) => value >= least);
  return (value / unit).toPrecision(3) + name;
}

function rate(value) {
  if (value === 0) return "0";
  return value < 0.1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : short(value);
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0";
  if (seconds < 0.001) return Math.max(1, Math.round(seconds * 1e6)) + " µs";
  if (seconds < 1) return (seconds * 1000).toPrecision(seconds < 0.1 ? 2 : 3) + " ms";
  if (seconds < 120) return (seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)) + " s";
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}

const bytes = (value) => (value < 1024 ? whole(value) + " B"
  : value < 1048576 ? (value / 1024).toFixed(1) + " KiB" : (value / 1048576).toFixed(value < 104857600 ? 1 : 0) + " MiB");
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

function table(id, heads, rows, none) {
  const body = rows.length
    ? rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))
    : [make("tr", {}, make("td", { class: "none", colspan: heads.length }, none || "none"))];
  $(id).replaceChildren(
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...body),
  );
}

function list(id, entries) {
  $(id).replaceChildren(...entries.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));
}

const yes = (good, word, otherwise) => (good ? word : make("span", { class: "off" }, otherwise));

function legend(id, series) {
  $(id).replaceChildren(...series.map(({ name, color }) => {
    const swatch = make("i");
    swatch.style.background = color;
    return make("li", {}, swatch, name);
  }));
}

function ceiling(value) {
  if (value <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * unit).find((step) => step >= value);
}

// Series are drawn over one another, or stacked; a value that is null leaves a gap.
function chart(id, series, { label, stacked = false, every, points, away }) {
  const svg = $(id), { width, height } = svg.getBoundingClientRect();
  if (!width) return;
  const left = 52, right = 4, top = 8, bottom = 20;
  const length = Math.max(...series.map(({ values }) => values.length));
  let below = new Array(length).fill(0);
  const layers = series.map(({ name, color, values }) => {
    const floor = below;
    const upper = values.map((value, at) => (value === null ? null : value + (stacked ? floor[at] : 0)));
    if (stacked) below = upper;
    return { name, color, floor, upper };
  });
  const most = ceiling(Math.max(0, ...layers.flatMap(({ upper }) => upper.filter((value) => value !== null))));
  const step = (width - left - right) / (points - 1);
  const x = (at) => (width - right - (length - 1 - at) * step).toFixed(1);
  const y = (value) => (top + (height - top - bottom) * (1 - value / most)).toFixed(1);
  const parts = [];
  const gone = (away || []).map((value, at) => (value ? null : at)).filter((at) => at !== null);
  for (const at of gone) {
    parts.push(make("svg:rect", { class: "away", x: x(at) - step, y: top, width: step + 0.5, height: height - top - bottom }));
  }
  for (const share of [0, 0.5, 1]) {
    parts.push(make("svg:line", { x1: left, x2: width - right, y1: y(most * share), y2: y(most * share) }));
    parts.push(make("svg:text", { x: left - 8, y: y(most * share), "text-anchor": "end", "dominant-baseline": "middle" }, label(most * share)));
  }
  const minutes = (every * (points - 1)) / 60, apart = width < 480 ? 5 : 2;
  for (let ago = 0; ago <= minutes; ago += apart) {
    const place = width - right - (ago * 60 / every) * step;
    const anchor = ago === 0 ? "end" : place - left < 20 ? "start" : "middle";
    parts.push(make("svg:text", { x: place, y: height - 4, "text-anchor": anchor }, ago ? `−${ago} min` : "now"));
  }
  for (const { color, floor, upper } of layers) {
    for (const [from, to] of runs(upper)) {
      const line = [];
      for (let at = from; at <= to; at++) line.push(`${x(at)},${y(upper[at])}`);
      if (stacked) {
        const back = [];
        for (let at = to; at >= from; at--) back.push(`${x(at)},${y(floor[at])}`);
        const area = make("svg:polygon", { points: [...line, ...back].join(" "), "fill-opacity": 0.8 });
        area.style.fill = color;
        parts.push(area);
      } else {
        const path = make("svg:polyline", { points: line.join(" "), fill: "none", "stroke-width": 1.75, "stroke-linejoin": "round", "stroke-linecap": "round" });
        path.style.stroke = color;
        parts.push(path);
      }
    }
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
}

function runs(values) {
  const found = [];
  values.forEach((value, at) => {
    if (value === null) return;
    if (at && values[at - 1] !== null) found[found.length - 1][1] = at;
    else found.push([at, at]);
  });
  return found;
}

function charts({ history }) {
  const points = 120, shared = { every: history.seconds, points, away: history.store_up };
  const requests = ACTIONS.map((name) => ({ name, color: `var(--${name})`, values: history[name] }));
  const latency = [
    { name: "p50", color: "var(--announce)", values: history.p50 },
    { name: "p99", color: "var(--refused)", values: history.p99 },
  ];
  const losses = ["refused", "dropped"].map((name) => ({ name, color: `var(--${name})`, values: history[name] }));
  chart("chart", requests, { label: rate, stacked: true, ...shared });
  chart("latency-chart", latency, { label: span, ...shared });
  chart("loss-chart", losses, { label: rate, ...shared });
  legend("legend", requests);
  legend("latency-legend", latency);
  legend("loss-legend", losses);
}

function condition({ store, workers }) {
  if (!workers.length) return ["bad", "not serving", store.word];
  if (!store.up) return ["warn", "on the stand-in", `The store is away, and the tracker answers from what it has heard: ${store.word}`];
  return ["good", "serving", ""];
}

function banner(kind, words) {
  $("banner").hidden = !words;
  $("banner").className = `banner ${kind}`;
  text("banner", words);
}

function state(kind, words) {
  $("state").className = `pill ${kind}`;
  text("state", words);
}

function show(stats) {
  const { recent, swarms, store, reaper, workers } = stats;
  const [kind, name, words] = condition(stats);
  state(kind, name);
  banner(kind, words);
  document.title = `${kind === "good" ? "" : "⚠ "}${short(sum(recent.requests))}/s · ${stats.host}`;
  text("host", stats.host);
  text("about", `${stats.version} (${stats.build}), Python ${stats.python} · up ${span(stats.uptime_seconds)} · ${stats.listen.join(", ")}`);
  const families = Object.values(swarms);
  const count = (field) => families.reduce((total, family) => total + family[field], 0);
  text("tile-requests", rate(sum(recent.requests)));
  text("tile-latency", span(recent.latency.all.p50));
  text("tile-latency-99", `p99 ${span(recent.latency.all.p99)}`);
  text("tile-seeders", short(count("seeders")));
  text("tile-leechers", short(count("leechers")));
  text("tile-swarms", `${short(count("swarms"))} swarms`);
  text("tile-peers", `${short(count("seeders") + count("leechers"))} peers`);
  text("tile-refused", rate(sum(recent.refused)));
  text("tile-dropped", rate(sum(recent.dropped) + recent.kernel_drops));
  charts(stats);
  table("actions", ["Action", "/s", "p50", "p99", "Total"], ACTIONS.map((action) => [
    action, rate(recent.requests[action]), span(recent.latency[action].p50), span(recent.latency[action].p99),
    short(sum(stats.requests[action])),
  ]));
  table("families", ["Family", "Swarms", "Seeders", "Leechers"], Object.entries(swarms).map(([family, held]) => [
    family.replace("ipv", "IPv"), short(held.swarms), short(held.seeders), short(held.leechers),
  ]), "not counted yet");
  const losses = [
    ...Object.entries(stats.refused).map(([reason, total]) => ["refused: " + reason, recent.refused[reason], total]),
    ...Object.entries(stats.dropped).map(([reason, total]) => ["dropped: " + reason, recent.dropped[reason], total]),
    ["dropped by the kernel", recent.kernel_drops, stats.kernel_drops],
  ];
  list("traffic", [
    ["Received", `${bytes(recent.received_bytes)}/s`],
    ["Sent", `${bytes(recent.sent_bytes)}/s`],
    ["Loop lag p50, p99", `${span(recent.loop_lag.p50)}, ${span(recent.loop_lag.p99)}`],
  ]);
  table("losses", ["Reason", "/s", "Total"], losses.filter(([, , total]) => total).map(([reason, now, total]) => [
    reason, rate(now || 0), short(total),
  ]), "none since the start");
  const { standby } = store;
  list("store", [
    ["Where", stats.storage],
    ["Answers", yes(store.up, "yes", "no")],
    ["Failed operations", short(sum(store.errors))],
    ...(standby === null ? [] : [
      ["Batch p50, p99", `${span(recent.store_latency.p50)}, ${span(recent.store_latency.p99)}`],
      ["Requests waiting", short(store.queue_depth)],
      ["Answered by the stand-in", short(standby.answers)],
      ["Peers to be written back", short(standby.buffered_peers)],
      ["Peers written back", short(standby.replayed)],
      ["Refused, stand-in full", short(standby.refused)],
    ]),
  ]);
  table("workers", ["Worker", "/s", "CPU", "Memory", "Queue", "Store"], workers.map((worker) => [
    worker.name, rate(worker.requests), `${(100 * worker.cpu).toFixed(worker.cpu < 0.1 ? 1 : 0)} %`, bytes(worker.resident_bytes), short(worker.queue_depth), yes(worker.store_up, "up", "away"),
  ]), "none answers");
  list("reaper", [
    ["Last run ended", reaper.last_ended === null ? "not yet" : `${clock(reaper.last_ended)}, took ${span(reaper.last_seconds)}`],
    ["Runs", short(reaper.runs)],
    ["Left to another node", short(reaper.left_to_others)],
    ["Cut off", short(reaper.cut_off)],
    ["Stale peers removed", short(reaper.removed_peers)],
    ["Empty swarms removed", short(reaper.removed_swarms)],
    ["Broken entries removed", short(reaper.broken_entries)],
  ]);
  list("settings", Object.entries(stats.settings).map(([path, value]) => [path.split(".").pop(), String(value)]));
  const top = Math.max(1, ...stats.busiest.map((swarm) => swarm.announces));
  $("busiest-card").hidden = !stats.busiest.length;
  table("busiest", ["Info hash", "Announces/min", "Seeders", "Leechers"], stats.busiest.map((swarm) => {
    const bar = make("span", { class: "bar" }), announces = make("span", {}, rate(swarm.announces), bar);
    bar.style.width = `${(100 * swarm.announces) / top}%`;
    return [swarm.info_hash, announces, short(swarm.seeders), short(swarm.leechers)];
  }));
  text("updated", `updated ${clock(stats.now)}, every ${EVERY / 1000} s`);
}

let last = null, heard = null;

async function refresh() {
  try {
    const response = await fetch("/stats.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    last = await response.json();
    heard = new Date();
    $("main").classList.remove("stale");
    show(last);
  } catch (error) {
    $("main").classList.add("stale");
    state("bad", "no answer");
    const since = heard ? `since ${heard.toLocaleTimeString()}` : "yet";
    banner("bad", `No answer from the tracker ${since} (${error.message}). What is shown below is old.`);
    document.title = "⚠ udptracker: no answer";
  }
  setTimeout(refresh, EVERY);
}

addEventListener("resize", () => last && charts(last));
refresh();
