// Run or sentence? Lines over runs, shares of the variance with intervals, and the reader's own table.

const COMPONENTS = ["run", "sentence", "interaction + residual"];
const ROLES = ["run", "sentence", "rest"];
const parts = open(host, data, look);
const keyOf = (group) => [group.by, group.layer, group.term].join("/");
const groups = new Map(data.groups.map((group) => [keyOf(group), group]));
const last = data.groups.filter((one) => one.by === data.groups[0].by).at(-1);
const first = data.groups.find((one) => one.by === last.by && one.layer === last.layer && one.term === "S") || last;
const state = { by: first.by, layer: first.layer, term: first.term, runs: data.runs.length, own: null, line: null };

// ---------------------------------------------------------------------------------------------------- the split

/** Mean squares of a full crossing, (run) x (sentence), one value a cell. */
function meanSquares(cells) {
  const R = cells.length, S = cells[0].length;
  let sum = 0;
  for (const row of cells) for (const one of row) sum += one;
  const middle = sum / (R * S);
  const centred = cells.map((row) => Float64Array.from(row, (one) => one - middle));
  const byRun = centred.map((row) => row.reduce((total, one) => total + one, 0) / S);
  const bySentence = new Float64Array(S);
  for (const row of centred) for (let s = 0; s < S; s++) bySentence[s] += row[s] / R;
  const mean = byRun.reduce((total, one) => total + one, 0) / R;
  let a = 0, b = 0, c = 0;
  for (const one of byRun) a += (one - mean) ** 2;
  for (const one of bySentence) b += (one - mean) ** 2;
  for (let r = 0; r < R; r++) for (let s = 0; s < S; s++) c += (centred[r][s] - byRun[r] - bySentence[s] + mean) ** 2;
  return [(S * a) / (R - 1), (R * b) / (S - 1), c / ((R - 1) * (S - 1))];
}

/** What the mean squares of `runs` runs would be, were the variances as estimated from R. */
function expected(squares, R, runs) {
  return [squares[0], squares[2] + (runs * (squares[1] - squares[2])) / R, squares[2]];
}

const drawsOf = new Map(), normals = [];

/** Degrees of freedom over chi-squared draws; kept, for they depend on nothing else. */
function draws(df, stream) {
  const key = `${df}/${stream}`;
  if (!drawsOf.has(key)) {
    if (drawsOf.size > 60) drawsOf.clear();
    normals[stream] ??= normalDraws(data.draws, 3 * data.seed + stream);
    drawsOf.set(key, chiSquaredDraws(normals[stream], df).map((one) => df / one));
  }
  return drawsOf.get(key);
}

/** Variances and shares with intervals: exact ones by chi-squared, generalised ones from draws. */
function splitOf(squares, R, S) {
  const df = [R - 1, S - 1, (R - 1) * (S - 1)];
  const sizes = [S, R, 1];
  const moments = [(squares[0] - squares[2]) / S, (squares[1] - squares[2]) / R, squares[2]];
  const variances = moments.map((one) => Math.max(0, one));
  const total = variances.reduce((sum, one) => sum + one, 0);
  const [U, V, W] = df.map((one, k) => draws(one, k));
  const n = data.draws;
  const pivots = [0, 1, 2].map(() => new Float64Array(n)), shares = [0, 1, 2].map(() => new Float64Array(n));
  for (let k = 0; k < n; k++) {
    const c = squares[2] * W[k];
    const a = Math.max(0, (squares[0] * U[k] - c) / S), b = Math.max(0, (squares[1] * V[k] - c) / R);
    const sum = a + b + c;
    pivots[0][k] = a; pivots[1][k] = b; pivots[2][k] = c;
    shares[0][k] = a / sum; shares[1][k] = b / sum; shares[2][k] = c / sum;
  }
  const tails = [(1 - data.level) / 2, (1 + data.level) / 2];
  return COMPONENTS.map((component, k) => {
    const [low, high] = tails.map((tail) => chiSquaredQuantile(tail, df[k]));
    const [pivot, share] = [pivots[k].sort(), shares[k].sort()];
    return {
      component, role: ROLES[k], levels: [R, S, R * S][k], df: df[k], square: squares[k],
      squareLower: (df[k] * squares[k]) / high, squareUpper: (df[k] * squares[k]) / low,
      sd: Math.sqrt(squares[k] / sizes[k]), times: [Math.sqrt(df[k] / high), Math.sqrt(df[k] / low)],
      variance: variances[k], varianceLower: quantile(pivot, tails[0]), varianceUpper: quantile(pivot, tails[1]),
      share: variances[k] / total, shareLower: quantile(share, tails[0]), shareUpper: quantile(share, tails[1]),
      below: moments[k] < 0,
    };
  });
}

// ---------------------------------------------------------------------------------------------------- the reader's table

class Refusal extends Error {}

/** The fields of each line of a CSV text, quotes undone, with the number of the line that each record begins in. */
function records(text) {
  const found = [];
  const plain = text.replace(/^\ufeff/, "");
  const head = plain.slice(0, plain.search(/\r|\n|$/));
  const mark = [",", ";", "\t"].reduce((best, one) => (head.split(one).length > head.split(best).length ? one : best), ",");
  let fields = [], field = "", quoted = false, line = 1, begun = 1;
  const close = () => {
    fields.push(field);
    if (fields.length > 1 || fields[0].trim() !== "") found.push({ line: begun, fields });
    fields = []; field = "";
  };
  for (let k = 0; k < plain.length; k++) {
    const one = plain[k];
    if (quoted) {
      if (one === '"' && plain[k + 1] === '"') { field += '"'; k++; }
      else if (one === '"') quoted = false;
      else { if (one === "\n") line++; field += one; }
    } else if (one === '"' && field.trim() === "") { quoted = true; field = ""; }
    else if (one === mark) { fields.push(field); field = ""; }
    else if (one === "\n" || one === "\r") {
      if (one === "\r" && plain[k + 1] === "\n") k++;
      close(); line++; begun = line;
    } else field += one;
  }
  if (quoted) throw new Refusal(`Line ${begun}: a quotation mark is opened and never closed.`);
  if (field !== "" || fields.length) close();
  return found;
}

/** A balanced table of run, sentence and value as {runs, sentences, cells}, or a Refusal that names the line. */
function readTable(text) {
  const lines = records(text);
  const wanted = ["run", "sentence", "value"];
  if (!lines.length) throw new Refusal("Line 1: the file is empty. A header “run,sentence,value” is wanted, then a line for each value.");
  const heads = lines[0].fields.map((one) => one.trim().toLowerCase());
  for (const name of wanted) {
    const many = heads.filter((one) => one === name).length;
    if (many !== 1) {
      throw new Refusal(`Line ${lines[0].line}: the header “${lines[0].fields.join(",").slice(0, 80)}” has ${many ? `${many} columns` : "no column"} “${name}”. It must name run, sentence and value, each once.`);
    }
  }
  const at = wanted.map((name) => heads.indexOf(name));
  const runs = new Map(), sentences = new Map(), cells = new Map();
  for (const { line, fields } of lines.slice(1)) {
    if (fields.length !== heads.length) throw new Refusal(`Line ${line}: ${fields.length} field(s), where the header has ${heads.length}. Give each line as many.`);
    const [run, sentence, written] = at.map((k) => fields[k].trim());
    if (!run || !sentence) throw new Refusal(`Line ${line}: the ${run ? "sentence" : "run"} is missing. Name it, or leave the line out.`);
    if (written === "" || /^(na|n\/a|null|none)$/i.test(written)) throw new Refusal(`Line ${line}: the value is missing (run “${run}”, sentence “${sentence}”). Leave that sentence out of every run.`);
    if (/^[+-]?(nan|inf(inity)?)$/i.test(written)) throw new Refusal(`Line ${line}: the value “${written}” is not finite. Leave that sentence out of every run.`);
    if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(written)) throw new Refusal(`Line ${line}: the value “${written}” is not a number. Write it like 0.25 or 2.5e-1.`);
    const value = Number(written);
    if (!Number.isFinite(value)) throw new Refusal(`Line ${line}: the value “${written}” is not finite: it is too large.`);
    if (!runs.has(run)) runs.set(run, line);
    if (!sentences.has(sentence)) sentences.set(sentence, { line, run });
    const key = JSON.stringify([run, sentence]);
    if (cells.has(key)) throw new Refusal(`Line ${line}: run “${run}”, sentence “${sentence}” stand here again, after line ${cells.get(key).line}. Keep one value for each pair.`);
    cells.set(key, { line, value });
  }
  const end = lines.at(-1).line;
  for (const [name, found] of [["run", runs], ["sentence", sentences]]) {
    if (found.size < 2) {
      const which = found.size ? `one ${name}, “${[...found.keys()][0]}”` : `no ${name}`;
      throw new Refusal(`Line ${end}, the last: there is ${which}. Two ${name}s or more are needed.`);
    }
  }
  for (const run of runs.keys()) {
    for (const [sentence, seen] of sentences) {
      if (!cells.has(JSON.stringify([run, sentence]))) {
        const lacking = runs.size * sentences.size - cells.size;
        throw new Refusal(`Line ${seen.line} has sentence “${sentence}” of run “${seen.run}”, but no line has it of run “${run}” (${lacking} of ${runs.size * sentences.size} pairs are missing). Every run needs every sentence: leave it out everywhere, or add it.`);
      }
    }
  }
  const table = [...runs.keys()].map((run) => [...sentences.keys()].map((sentence) => cells.get(JSON.stringify([run, sentence])).value));
  let low = Infinity, high = -Infinity;
  for (const row of table) for (const one of row) { low = Math.min(low, one); high = Math.max(high, one); }
  if (high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high))) {
    throw new Refusal(`Lines ${lines[1].line} to ${end}: all values are ${digits(low)}. There is no variance to split.`);
  }
  return { runs: [...runs.keys()], sentences: [...sentences.keys()], cells: table };
}

// ---------------------------------------------------------------------------------------------------- what is shown

/** The table that is looked at, the book's or the reader's: names, lines (sentence, run), means, mean squares. */
function shown() {
  if (state.own) return state.own;
  const group = groups.get(keyOf(state));
  return {
    runs: data.runs, sentences: data.drawn, count: data.sentences, squares: group.squares, means: group.means,
    lines: group.lines.map((line) => line.map((one) => one * group.unit)), label: data.label, name: group.name,
  };
}

function ofReader(found, name) {
  const S = found.sentences.length, most = 60;
  const kept = [...new Set(Array.from({ length: Math.min(S, most) }, (_, k) => Math.round((k * (S - 1)) / Math.max(1, Math.min(S, most) - 1))))];
  return {
    runs: found.runs, sentences: kept.map((k) => found.sentences[k]), count: S, squares: meanSquares(found.cells),
    means: found.cells.map((row) => row.reduce((sum, one) => sum + one, 0) / S),
    lines: kept.map((k) => found.cells.map((row) => row[k])), label: "value", name,
  };
}

const unique = (values) => [...new Set(values)];
const methods = { sublayer: "by sublayer", token: "by token" };
const having = (by, layer) => data.groups.filter((one) => one.by === by && one.layer === layer);
const method = segments("Method", unique(data.groups.map((one) => one.by)).map((value) => ({ value, label: methods[value] })), state.by, (value) => {
  state.by = value;
  const options = having(state.by, state.layer);
  if (!options.some((one) => one.term === state.term)) state.term = options[0].term;
  terms.fill(termOptions(), state.term);
  redraw();
});
const termOptions = () => having(state.by, state.layer).map((one) => ({ value: one.term, label: `${one.term}: ${one.name}` }));
const layer = segments("Layer", unique(data.groups.map((one) => one.layer)).map((value) => ({ value: String(value), label: String(value) })), String(state.layer), (value) => {
  state.layer = Number(value); redraw();
});
const terms = menu("Term", termOptions(), state.term, (value) => { state.term = value; redraw(); });
if (unique(data.groups.map((one) => one.by)).length < 2) method.element.hidden = true;
const choices = [method, layer, terms].filter(({ element }) => !element.hidden);
const most = 60;
const count = slider("Runs", 2, most, state.runs, (value) => runsWord(value), (value) => { state.runs = value; redraw(); });
parts.controls.append(method.element, layer.element, terms.element);

function runsWord(value) {
  const there = state.own ? state.own.runs.length : data.runs.length;
  return value === there ? `${value}, as measured` : `${value}, were the variances as they are estimated from ${there}`;
}

const lines = make("svg", { tabindex: 0, role: "img", keydown: step, mousemove: near, mouseleave: () => { if (state.line !== null) { state.line = null; redrawLines(); } } });
const shares = make("svg", { role: "img" });
const note = make("p", { class: "small quiet" });
const heading = make("p", { class: "heading" }, "Shares of the variance, with 95 % intervals");
parts.stage.append(lines, note, make("div", { class: "controls" }, count.element), heading, shares);

const refusal = make("p", { class: "refusal", role: "alert" });
const file = make("input", { type: "file", accept: ".csv,.tsv,.txt,text/csv", "aria-label": "Your own table, a CSV file", change: () => { take(file.files[0]); file.value = ""; } });
const back = make("button", { class: "back", type: "button", hidden: true, click: () => { leave(); } }, "Back to the runs of this page");
const drop = make(
  "div", { class: "drop screen" },
  make("div", {}, make("b", {}, "Your own runs? "), "Drop a CSV file here, or choose one: columns ", make("code", {}, "run"), ", ", make("code", {}, "sentence"), ", ", make("code", {}, "value"), ", every run with every sentence. It stays in this page; nothing is sent."),
  file, refusal, back,
);
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault(); event.stopPropagation();
    drop.classList.toggle("over", over);
    if (name === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}
parts.said.after(drop);

async function take(given) {
  if (!given) return;
  try {
    refusal.textContent = "";
    if (given.size > 5e7) throw new Refusal(`${given.name} has ${Math.round(given.size / 1e6)} MB; 50 are the most that this page reads.`);
    state.own = ofReader(readTable(await given.text()), given.name);
    state.line = null;
    for (const control of choices) control.element.hidden = true;
    back.hidden = false;
    state.runs = state.own.runs.length;
    count.limit(2, Math.max(most, state.runs));
    count.set(state.runs);
    redraw();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    refusal.textContent = error.message;
  }
}

function leave() {
  state.own = null; state.line = null; state.runs = data.runs.length; refusal.textContent = "";
  for (const control of choices) control.element.hidden = false;
  back.hidden = true;
  count.limit(2, most);
  count.set(state.runs);
  redraw();
  file.focus();
}

// ---------------------------------------------------------------------------------------------------- drawing

let geometry = null;

function drawLines(width) {
  const table = shown(), height = Math.min(300, Math.max(230, width * 0.42)), R = table.runs.length;
  const [left, right, top, bottom] = [44, 8, width < 420 ? 38 : 24, 34];
  const x = scale([0, Math.max(1, R - 1)], [left + 8, width - right - 6]);
  const range = extent([...table.lines.flat(), ...table.means]);
  const y = scale(range, [height - bottom, top]);
  const across = (values) => pathOf(values.map((one, k) => [x(k), y(one)]));
  const marks = ticks(...range, 4);
  const every = Math.ceil(R / Math.max(2, Math.floor((width - left) / 24)));
  geometry = { x, y, table };
  put(lines, { height, viewBox: `0 0 ${width} ${height}` });
  const text = (content, attributes) => make("text", attributes, content);
  lines.replaceChildren(
    ...marks.values.map((value) => make("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) })),
    ...marks.values.map((value) => text(fixed(value, marks.decimals), { class: "quiet", x: left - 6, y: y(value) + 4, "text-anchor": "end" })),
    text(table.label, { class: "quiet", x: 0, y: 11 }),
    ...table.runs.flatMap((_, k) => (k % every ? [] : [text(String(k + 1), { class: "quiet", x: x(k), y: height - bottom + 16, "text-anchor": "middle" })])),
    text("run", { class: "quiet", x: (left + width) / 2, y: height - 3, "text-anchor": "middle" }),
    ...table.lines.map((line) => make("path", { class: "line", d: across(line) })),
    make("path", { class: "mean", d: across(table.means) }),
    ...table.means.map((one, k) => make("circle", { class: "dot", cx: x(k), cy: y(one), r: 3.2 })),
    text("mean of each run", { x: width - right, y: width < 420 ? 28 : 11, "text-anchor": "end", style: "fill: var(--text-run); font-weight: 600" }),
  );
  const chosen = state.line === null ? null : table.lines[state.line];
  if (chosen) {
    const name = `sentence ${table.sentences[state.line]}`;
    const low = y(chosen.at(-1)) > height - bottom - 12;
    lines.append(
      make("path", { class: "one", d: across(chosen) }),
      text(name, { class: "halo", x: width - right, y: y(chosen.at(-1)) + (low ? -8 : 16), "text-anchor": "end", style: "fill: var(--text-sentence); font-weight: 600" }),
    );
  }
  lines.setAttribute("aria-label", `${table.lines.length} lines, one a sentence, over ${R} runs; the runs' means lie from ${digits(Math.min(...table.means), 3)} to ${digits(Math.max(...table.means), 3)}.`
    + (chosen ? ` Sentence ${table.sentences[state.line]}: from ${digits(Math.min(...chosen), 3)} to ${digits(Math.max(...chosen), 3)}.` : " Arrow keys go from sentence to sentence."));
  note.textContent = (table.count > table.lines.length ? `${table.lines.length} of ${table.count} sentences are drawn; the split is that of all.` : `All ${table.count} sentences are drawn.`)
    + " Point at a line, or use the arrow keys, to see one sentence.";
}

function drawShares(width, split, measured) {
  const row = 47, height = 3 * row + 22, [left, right] = [2, 8];
  const x = scale([0, 1], [left + 6, width - right]);
  put(shares, { height, viewBox: `0 0 ${width} ${height}` });
  shares.replaceChildren(
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((value) => [
      make("line", { class: "grid", x1: x(value), x2: x(value), y1: 2, y2: height - 20 }),
      make("text", { class: "quiet", x: x(value), y: height - 4, "text-anchor": value === 0 ? "start" : value === 1 ? "end" : "middle" }, String(value)),
    ]),
    ...split.flatMap((one, k) => {
      const top = k * row, at = top + 32, stroke = `stroke: var(--mark-${one.role})`;
      return [
        make("text", { class: "halo", x: left, y: top + 16, style: `fill: var(--text-${one.role}); font-weight: 600` }, one.component),
        make("text", { class: "halo number", x: width - right, y: top + 16, "text-anchor": "end" }, `${fixed(one.share)}  [${fixed(one.shareLower)}, ${fixed(one.shareUpper)}]`),
        make("line", { class: "band", style: stroke, x1: x(measured[k].shareLower), x2: x(measured[k].shareUpper), y1: at, y2: at }),
        make("line", { class: "span moving", style: stroke, x1: x(one.shareLower), x2: x(one.shareUpper), y1: at, y2: at }),
        make("circle", { class: "estimate", style: `fill: var(--mark-${one.role})`, cx: x(one.share), cy: at, r: 6 }),
      ];
    }),
  );
  shares.setAttribute("aria-label", split.map((one) => `${one.component}: ${fixed(one.share)}, from ${fixed(one.shareLower)} to ${fixed(one.shareUpper)}`).join("; "));
}

function draw(width) {
  const table = shown(), R = table.runs.length;
  const measured = splitOf(table.squares, R, table.count);
  const split = state.runs === R ? measured : splitOf(expected(table.squares, R, state.runs), state.runs, table.count);
  heading.textContent = `Shares of the variance with ${100 * data.level} % intervals: the line is that of ${state.runs} runs` + (state.runs === R ? "" : `, the pale band that of the ${R} measured`);
  drawLines(width);
  drawShares(width, split, measured);
  say(table, split);
  writeTables(table, split);
}

function say(table, split) {
  const [run] = split;
  const words = split.map((one) => `${one.component} ${fixed(one.share)}`).join(", ");
  parts.said.replaceChildren(
    make("b", {}, state.own ? `${table.name}: ` : `${table.name}, layer ${state.layer}, ${methods[state.by]}: `),
    `${words}. The standard deviation of the run means is ${digits(run.sd, 3)}; with ${state.runs} runs it is known from ${fixed(run.times[0])} to ${fixed(run.times[1])} times that (exact, by chi-squared).`
    + (split.some((one) => one.below) ? ` The estimate of ${split.filter((one) => one.below).map((one) => one.component).join(" and ")} was below zero and is set to 0.` : ""),
  );
}

function writeTables(table, split) {
  const cell = (value) => ({ value, text: digits(value) });
  const percent = 100 * data.level;
  const measured = state.runs === table.runs.length ? "as measured" : `expected of ${state.runs} runs with the variances of ${table.runs.length}`;
  parts.tables.replaceChildren(
    table_("variances", `Variances and shares, ${measured}: ${percent} % generalised intervals from ${data.draws} stratified draws with seed ${data.seed}`,
      ["component", "variance", "lower", "upper", "share", "lower", "upper"],
      split.map((one) => [one.component, cell(one.variance), cell(one.varianceLower), cell(one.varianceUpper), cell(one.share), cell(one.shareLower), cell(one.shareUpper)])),
    table_("squares", `Mean squares, ${measured}: exact ${percent} % intervals of what they estimate, by chi-squared`,
      ["component", "levels", "df", "mean square", "lower", "upper"],
      split.map((one) => [one.component, cell(one.levels), cell(one.df), cell(one.square), cell(one.squareLower), cell(one.squareUpper)])),
    table_("deviations", "Standard deviations of run means, of sentence means, and of what is left in the cells: exact intervals, by chi-squared",
      ["component", "SD", "lower", "upper", "times at least", "times at most"],
      split.map((one) => [one.component, cell(one.sd), cell(one.sd * one.times[0]), cell(one.sd * one.times[1]), cell(one.times[0]), cell(one.times[1])])),
    table_("means", "The runs that are drawn, and their means", ["run", "name", "mean"], table.runs.map((run, k) => [String(k + 1), run, cell(table.means[k])])),
  );
}

function table_(name, ...given) {
  return put(table(...given), { "data-table": name });
}

function near(event) {
  const box = lines.getBoundingClientRect(), { x, y, table } = geometry;
  const at = event.clientX - box.left, height = event.clientY - box.top;
  let best = null, least = 14;
  for (let k = 0; k < table.lines.length; k++) {
    const line = table.lines[k];
    for (let r = 0; r + 1 < line.length; r++) {
      if (at < x(r) - 6 || at > x(r + 1) + 6) continue;
      const share = Math.max(0, Math.min(1, (at - x(r)) / (x(r + 1) - x(r))));
      const gap = Math.abs(height - (y(line[r]) * (1 - share) + y(line[r + 1]) * share));
      if (gap < least) { least = gap; best = k; }
    }
  }
  if (best !== state.line) { state.line = best; redrawLines(); }
}

function step(event) {
  const turn = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
  if (!turn) return;
  event.preventDefault();
  // In the order of the sentences' means, so that "up" goes up.
  const means = geometry.table.lines.map((line) => line.reduce((sum, one) => sum + one, 0));
  const order = means.map((_, k) => k).sort((a, b) => means[a] - means[b]);
  const at = state.line === null ? (turn > 0 ? -1 : order.length) : order.indexOf(state.line);
  state.line = order[Math.max(0, Math.min(order.length - 1, at + turn))];
  redrawLines();
}

let wide = 0;
const size = whenSized(parts.stage, (width) => { wide = width; draw(width); });
const redraw = once(size);
const redrawLines = once(() => drawLines(wide));
