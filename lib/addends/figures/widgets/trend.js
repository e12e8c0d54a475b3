// What does trend buy? A path over checkpoints, and its rank correlation beside those with other runs' quality.

const FEWEST = 4;
const VERSIONS = [
  { value: "levels", label: "levels" },
  { value: "differences", label: "differences" },
  { value: "given", label: "given the step" },
];
const parts = open(host, data, look);
for (const group of data.groups) {
  const bytes = Uint8Array.from(atob(group.values), (one) => one.charCodeAt(0));
  const flat = data.bits === 64 ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer);
  group.of = data.runs.map((_, k) => Array.from(flat.subarray(k * data.steps.length, (k + 1) * data.steps.length)));
}
const deepest = Math.max(...data.groups.map((one) => one.layer));
const begin = data.groups.find((one) => one.layer === deepest && one.term === "S") || data.groups[0];
const state = { by: begin.by, layer: begin.layer, term: begin.term, run: 0, other: 0, version: "levels", from: 0 };

// ---------------------------------------------------------------------------------------------------- coefficients
// As addends.statistics.correlate_checkpoints computes them, ties and rounding included.

const largest = (values) => values.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
const spread = (values) => Math.max(...values) - Math.min(...values);
const changes = (values) => values.slice(1).map((one, k) => one - values[k]);
const rint = (value) => { const low = Math.floor(value), gap = value - low; return gap === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(value); };

/** Numbers with at most four decimals as whole ones, so that equal differences are equal. */
function whole(values, rounding) {
  for (let places = 0; places <= 4; places++) {
    const scaled = values.map((one) => one * 10 ** places), error = rounding * largest(scaled);
    if (error < 0.05 && scaled.every((one) => Math.abs(one - rint(one)) <= error)) return scaled.map(rint);
  }
  return values;
}

/** Ranks of changes; those that differ by the rounding of a subtraction alone are tied. */
function ranksOfChanges(values) {
  const found = changes(values), order = found.map((_, k) => k).sort((a, b) => found[a] - found[b]);
  const least = 4 * Number.EPSILON * largest(values), place = new Array(found.length);
  let count = 0;
  order.forEach((k, n) => {
    if (n && found[k] - found[order[n - 1]] > least) count++;
    place[k] = count;
  });
  return ranks(place);
}

function partial(r, withX, withQ) {
  if (Math.max(Math.abs(withX), Math.abs(withQ)) > 1 - 1e-12) return NaN;
  return Math.max(-1, Math.min(1, (r - withX * withQ) / Math.sqrt((1 - withX ** 2) * (1 - withQ ** 2))));
}

/** The three coefficients of an indicator and a quality over steps; what is undefined is NaN. */
function coefficients(indicator, quality, from) {
  const kept = data.steps.map((_, k) => k).filter((k) => k >= from && Number.isFinite(indicator[k]) && quality[k] !== null);
  const found = { levels: NaN, differences: NaN, given: NaN, kept };
  if (kept.length < FEWEST) return found;
  const x = whole(kept.map((k) => indicator[k]), data.rounding.indicator), q = whole(kept.map((k) => quality[k]), data.rounding.quality);
  const flat = [x, q].map((one, k) => spread(one) <= [data.rounding.indicator, data.rounding.quality][k] * largest(one));
  if (flat[0] || flat[1]) return found;
  const [rx, rq, rt] = [ranks(x), ranks(q), kept.map((_, k) => k + 1)];
  found.levels = correlation(rx, rq);
  const even = [x, q].some((one, k) => spread(changes(one)) <= 2 * [data.rounding.indicator, data.rounding.quality][k] * largest(one));
  if (!even) found.differences = correlation(ranksOfChanges(x), ranksOfChanges(q));
  found.given = partial(found.levels, correlation(rx, rt), correlation(rq, rt));
  return { ...found, rx, rq, rt, x: kept.map((k) => indicator[k]), q: kept.map((k) => quality[k]) };
}

/** What is left of ranks when a straight line through the steps' ranks is taken out. */
function residuals(values, steps) {
  const n = values.length, a = values.reduce((s, v) => s + v, 0) / n, b = steps.reduce((s, v) => s + v, 0) / n;
  let xy = 0, xx = 0;
  for (let k = 0; k < n; k++) { xy += (values[k] - a) * (steps[k] - b); xx += (steps[k] - b) ** 2; }
  return values.map((one, k) => one - a - (xy / xx) * (steps[k] - b));
}

// ---------------------------------------------------------------------------------------------------- controls

const unique = (values) => [...new Set(values)];
const methods = { sublayer: "by sublayer", token: "by token" };
const group = () => data.groups.find((one) => one.by === state.by && one.layer === state.layer && one.term === state.term);
const having = () => data.groups.filter((one) => one.by === state.by && one.layer === state.layer);
const termOptions = () => having().map((one) => ({ value: one.term, label: `${one.term}: ${one.name}` }));
const qualityOptions = () => data.runs.map((name, value) => ({ value, label: value === state.run ? `${name} (its own)` : `${name} (swapped in)` }));
const terms = menu("Term", termOptions(), state.term, (value) => { state.term = value; redraw(); });
const layers = segments("Layer", unique(data.groups.map((one) => one.layer)).map((one) => ({ value: String(one), label: String(one) })), String(state.layer), (value) => {
  state.layer = Number(value);
  if (!having().some((one) => one.term === state.term)) state.term = having()[0].term;
  terms.fill(termOptions(), state.term);
  redraw();
});
const ways = unique(data.groups.map((one) => one.by));
const method = segments("Method", ways.map((value) => ({ value, label: methods[value] || value })), state.by, (value) => {
  state.by = value;
  if (!having().some((one) => one.term === state.term)) state.term = having()[0].term;
  terms.fill(termOptions(), state.term);
  redraw();
});
const others = menu("Quality of", qualityOptions(), state.other, (value) => { state.other = Number(value); redraw(); });
const runs = menu("Indicator of run", data.runs.map((label, value) => ({ value, label })), state.run, (value) => {
  const own = state.other === state.run;
  state.run = Number(value);
  if (own) state.other = state.run;
  others.fill(qualityOptions(), state.other);
  redraw();
});
const version = segments("Compare", VERSIONS, state.version, (value) => { state.version = value; redraw(); });
const brush = slider("First checkpoint kept", 0, data.steps.length - FEWEST, 0, (value) => `step ${data.steps[value]}${value ? ` (${value} left out)` : " (all)"}`, (value) => { state.from = value; redraw(); });
if (ways.length > 1) parts.controls.append(method.element);
parts.controls.append(layers.element, terms.element, runs.element, others.element, version.element, brush.element);

const path = make("svg", { role: "img" });
const strip = make("svg", { role: "img" });
const heading = make("p", { class: "heading" });
parts.stage.append(path, heading, strip);

// ---------------------------------------------------------------------------------------------------- drawing

const median = (sorted) => quantile(sorted, 0.5);

function all() {
  const indicator = group().of[state.run];
  return data.quality.map((quality) => coefficients(indicator, quality, state.from));
}

/** The points of the chosen version: what is set against what, and the steps that they stand for. */
function points(found) {
  const { kept, x, q } = found;
  if (!x) return { x: [], y: [], kept: [], labels: ["", ""] };
  const { indicator, quality } = data.labels;
  if (state.version === "levels") return { x, y: q, kept, labels: [indicator, quality] };
  if (state.version === "differences") return { x: changes(x), y: changes(q), kept: kept.slice(1), labels: [`change of the ${indicator}`, `change of ${quality}`] };
  return { x: residuals(found.rx, found.rt), y: residuals(found.rq, found.rt), kept, labels: ["rank of the indicator, less its trend", "rank of the quality, less its trend"] };
}

function drawPath(width, found) {
  const height = Math.min(330, Math.max(250, width * 0.5)), [left, right, top, bottom] = [46, 14, 24, 38];
  const shownPoints = points(found), role = `${state.by}-${state.term}`;
  const indicator = group().of[state.run], quality = data.quality[state.other];
  const levels = state.version === "levels";
  const gone = levels ? data.steps.map((_, k) => k).filter((k) => k <= state.from && Number.isFinite(indicator[k]) && quality[k] !== null) : [];
  const xs = levels ? data.steps.map((_, k) => indicator[k]) : shownPoints.x, ys = levels ? quality.map((one) => one ?? NaN) : shownPoints.y;
  const [rangeX, rangeY] = [extent(xs, 0.06), extent(ys, 0.06)];
  const x = scale(rangeX, [left, width - right]), y = scale(rangeY, [height - bottom, top]);
  const [marksX, marksY] = [ticks(...rangeX, Math.max(2, width / 110)), ticks(...rangeY, 4)];
  const n = shownPoints.x.length;
  put(path, { height, viewBox: `0 0 ${width} ${height}` });
  path.replaceChildren(
    ...marksY.values.map((value) => make("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) })),
    ...marksX.values.map((value) => make("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: height - bottom })),
    ...marksY.values.map((value) => make("text", { class: "quiet", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, fixed(value, marksY.decimals))),
    ...marksX.values.map((value) => make("text", { class: "quiet", x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, fixed(value, marksX.decimals))),
    make("text", { class: "quiet", x: 0, y: 11 }, shownPoints.labels[1]),
    make("text", { class: "quiet", x: width - right, y: height - 4, "text-anchor": "end" }, shownPoints.labels[0]),
    make("path", { class: "gone", d: pathOf(gone.map((k) => [x(indicator[k]), y(quality[k])])) }),
  );
  const stroke = `stroke: var(--mark-${role})`;
  if (levels) path.append(make("path", { class: "way", style: stroke, d: pathOf(shownPoints.x.map((one, k) => [x(one), y(shownPoints.y[k])])) }));
  for (let k = 0; k < n; k++) {
    path.append(make("circle", { class: "at", style: `fill: var(--mark-${role})`, cx: x(shownPoints.x[k]), cy: y(shownPoints.y[k]), r: 2.5 + (3 * (k + 1)) / n }));
  }
  for (const k of n ? [0, n - 1] : []) {
    const end = x(shownPoints.x[k]) > width - 110;
    path.append(make("text", { class: "halo", x: x(shownPoints.x[k]) + (end ? -9 : 9), y: y(shownPoints.y[k]) + (k ? -7 : 14), "text-anchor": end ? "end" : "start", style: `fill: var(--text-${role}); font-weight: 600` }, `step ${data.steps[shownPoints.kept[k]]}`));
  }
  path.setAttribute("aria-label", `${shownPoints.labels[1]} against ${shownPoints.labels[0]} at ${n} points, from step ${data.steps[state.from]} on.`);
}

function summary(list, key) {
  const swaps = list.map((one, k) => ({ k, rho: one[key] })).filter(({ k, rho }) => k !== state.run && Number.isFinite(rho));
  const sorted = swaps.map(({ rho }) => rho).sort((a, b) => a - b);
  const own = list[state.run][key];
  const size = (rho) => Math.abs(rho);
  const above = swaps.filter(({ rho }) => size(rho) >= size(own) - 1e-12).length;
  return { swaps, sorted, own, rank: above + 1, of: swaps.length + 1, low: sorted[0], middle: sorted.length ? median(sorted) : NaN, high: sorted.at(-1) };
}

function drawStrip(width, list) {
  const row = 52, height = 3 * row + 20, [left, right] = [8, 8], role = `${state.by}-${state.term}`;
  const x = scale([-1, 1], [left, width - right]);
  put(strip, { height, viewBox: `0 0 ${width} ${height}` });
  strip.replaceChildren(
    ...[-1, -0.5, 0, 0.5, 1].flatMap((value) => [
      make("line", { class: "grid", x1: x(value), x2: x(value), y1: 0, y2: height - 20 }),
      make("text", { class: "quiet", x: x(value), y: height - 4, "text-anchor": value === -1 ? "start" : value === 1 ? "end" : "middle" }, fixed(value, Number.isInteger(value) ? 0 : 1)),
    ]),
  );
  VERSIONS.forEach(({ value, label }, n) => {
    const { swaps, own, low, middle, high } = summary(list, value), top = n * row, at = top + 36, chosen = value === state.version;
    const weight = chosen ? "font-weight: 600" : "";
    const set = make("g", { class: "version", click: () => { state.version = value; version.set(value); redraw(); } });
    const said = Number.isFinite(own) ? `own ${fixed(own)}, swapped ${fixed(middle)}` + (width > 520 ? ` (${fixed(low)} to ${fixed(high)})` : "") : "undefined";
    set.append(
      make("rect", { x: 0, y: top, width, height: row, fill: "transparent" }),
      make("text", { class: "halo", x: 0, y: top + 17, style: weight }, label),
      make("text", { class: "halo number", x: width, y: top + 17, "text-anchor": "end", style: weight }, said),
      make("line", { class: "line", x1: x(-1), x2: x(1), y1: at, y2: at }),
      ...swaps.map(({ rho }) => make("circle", { class: "swap", cx: x(rho), cy: at, r: 4 })),
    );
    const marked = list[state.other][value];
    if (state.other !== state.run && Number.isFinite(marked)) set.append(make("circle", { class: "at", cx: x(marked), cy: at, r: 5.5, style: "fill: var(--ink)" }));
    if (Number.isFinite(own)) set.append(make("path", { class: "at", style: `fill: var(--mark-${role})`, d: `M${x(own)},${at - 9}l8,9l-8,9l-8,-9Z` }));
    strip.append(set);
  });
  strip.setAttribute("aria-label", VERSIONS.map(({ value, label }) => {
    const { own, low, high } = summary(list, value);
    return `${label}: own ${fixed(own)}, swapped from ${fixed(low)} to ${fixed(high)}`;
  }).join("; "));
}

function say(list) {
  const { label } = VERSIONS.find(({ value }) => value === state.version);
  const { own, rank, of, middle, low, high } = summary(list, state.version);
  const now = list[state.other][state.version], swapped = state.other !== state.run;
  if (!Number.isFinite(now)) {
    parts.said.replaceChildren(make("b", {}, `Spearman’s ρ, ${label}: undefined. `), "A series is constant, or rises or falls at every checkpoint that is kept: once the step is held fixed, nothing of it is left.");
    return;
  }
  const value = make("b", { class: "rho", "data-value": now }, `Spearman’s ρ, ${label}: ${fixed(now, 3)}`);
  const whose = swapped ? ` with the quality of ${data.runs[state.other]} (with its own ${fixed(own, 3)}). ` : " with the run’s own quality. ";
  const beside = `With the quality of the ${of - 1} other runs it is ${fixed(middle, 3)} in the median, from ${fixed(low, 3)} to ${fixed(high, 3)}. `;
  const place = Number.isFinite(own) ? `By size, its own is number ${rank} of ${of}; a run picked blindly comes this high with probability ${fixed(rank / of)}.` : "";
  parts.said.replaceChildren(value, whose, beside, place);
}

function writeTables(list) {
  const cell = (value) => ({ value, text: fixed(value, 3) });
  const { kept } = list[state.run];
  const of = `${state.term} (${group().name}), layer ${state.layer}, ${methods[state.by] || state.by}, run ${data.runs[state.run]}`;
  parts.tables.replaceChildren(
    put(table(
      `Spearman’s ρ of the ${data.labels.indicator} of ${of}, with each run’s quality; ${kept.length} checkpoints from step ${data.steps[state.from]} on`,
      ["quality of", ...VERSIONS.map(({ label }) => label)],
      list.map((one, k) => [k === state.run ? `${data.runs[k]} (its own)` : data.runs[k], ...VERSIONS.map(({ value }) => cell(one[value]))]),
    ), { "data-table": "rho" }),
    put(table(
      `What is drawn: indicator of ${data.runs[state.run]}, quality of ${data.runs[state.other]}`,
      ["step", data.labels.indicator, data.labels.quality],
      kept.map((k) => [String(data.steps[k]), { value: group().of[state.run][k], text: digits(group().of[state.run][k]) }, { value: data.quality[state.other][k], text: digits(data.quality[state.other][k]) }]),
    ), { "data-table": "path" }),
  );
}

function draw(width) {
  const list = all();
  drawPath(width, list[state.other]);
  heading.textContent = `ρ of ${data.runs[state.run]} with its own quality (filled diamond) and with that of each other run (rings${state.other === state.run ? "" : "; the one swapped in is filled"})`;
  drawStrip(width, list);
  say(list);
  writeTables(list);
}

const size = whenSized(parts.stage, draw);
const redraw = once(size);
