// Take a sentence apart: rows of bars for the states of a translation, and the words that the chosen state came from.

const state = { sentence: 0, ledger: data.ledgers.length - 1, layer: data.layers.length - 1, constants: true, position: 0, over: null };
const parts = open(host, data, look);
const now = () => data.sentences[state.sentence];
const ledger = () => data.ledgers[state.ledger];
const of = (numbers) => numbers * data.unit;
const special = (token) => /^[<⟨(\[].*[>⟩)\]]$/.test(token);

// The state that one looks at: at first, the word in the middle.
const middle = () => Math.floor(now().tokens.predicted.length / 2) - 1;
state.position = Math.max(0, middle());

const sentences = menu(
  "Sentence",
  data.sentences.map((one, value) => ({ value, label: one.title })),
  "0",
  (value) => { state.sentence = Number(value); state.position = Math.max(0, middle()); build(); },
);
parts.controls.append(
  sentences.element,
  segments("Ledger", data.ledgers.map((one, value) => ({ value: String(value), label: one.label })), String(state.ledger), (value) => {
    state.ledger = Number(value); build();
  }).element,
  slider("Layer", 0, data.layers.length - 1, state.layer, (value) => layerName(data.layers[value]), (value) => { state.layer = value; draw(); }).element,
  check("with constants", true, (value) => { state.constants = value; draw(); }).element,
);

function layerName(layer) {
  return layer === 0 ? "0 of " + data.layers.at(-1) + ", the first one’s input" : `${layer} of ${data.layers.at(-1)}`;
}

const words = { source: make("div", { class: "words", role: "list" }), read: make("div", { class: "words", role: "list" }) };
const heading = { source: make("p", { class: "heading" }), read: make("p", { class: "heading" }) };
const equation = make("p", { class: "equation", "aria-live": "polite" });
const rows = make("fieldset", { class: "rows" });
const key = make("p", { class: "equation small" });
parts.stage.append(heading.source, words.source, heading.read, words.read, rows, equation);
let drawn = [];
let place = (value) => value;

/** Shares of the terms of a state: (term) -> share. */
function sharesAt(position) {
  const { by, terms } = ledger();
  return terms.map(({ term, name }, k) => ({ term, name, role: `${by}-${term}`, share: of(now().shares[by][state.layer][k][position]) }));
}

/** The ends of the bars over all layers, so that they do not jump while the layer moves. */
function domain() {
  let low = 0, high = 1;
  const shares = now().shares[ledger().by];
  for (const layer of shares) {
    for (let t = 0; t < layer[0].length; t++) {
      let down = 0, up = 0;
      for (const term of layer) if (term[t] < 0) down += of(term[t]); else up += of(term[t]);
      low = Math.min(low, down); high = Math.max(high, up);
    }
  }
  return [low, high];
}

/** New rows: of another sentence, or another ledger. */
function build() {
  const [low, high] = domain();
  const pad = 0.02 * (high - low);
  place = (value) => `${(100 * (value - low + pad)) / (high - low + 2 * pad)}%`;
  const length = (value) => `${(100 * Math.abs(value)) / (high - low + 2 * pad)}%`;
  const name = `state-${names++}`;
  rows.replaceChildren(make("legend", { class: "heading" }, "Each row is a state, named by the word that it predicts. Its parts sum to the line at 1. Choose a row:"));
  drawn = now().tokens.predicted.map((token, position) => {
    const input = make("input", { type: "radio", class: "unseen", name, value: position, change: () => { state.position = position; draw(); } });
    input.checked = position === state.position;
    const bars = ledger().terms.map(() => make("rect", { class: "part moving", y: "8%", height: "84%" }));
    const bar = make(
      "svg", { "aria-hidden": "true" },
      make("line", { class: "axis", x1: place(0), x2: place(0), y1: 0, y2: "100%" }),
      ...bars,
      make("line", { class: "zero", x1: place(0), x2: place(0), y1: 0, y2: "100%" }),
      make("line", { class: "whole", x1: place(1), x2: place(1), y1: "-12%", y2: "112%" }),
    );
    const element = make(
      "label", {
        class: "row", "data-position": position,
        mouseenter: () => { state.over = position; draw(); }, mouseleave: () => { state.over = null; draw(); },
      },
      input, make("span", { class: "token" }, token), bar,
    );
    return { element, bars, input, length };
  });
  const marks = ticks(low, high, 4).values.filter((value) => Math.abs(value) > 1e-9 && Math.abs(value - 1) > 0.2);
  const axis = make("svg", { "aria-hidden": "true" }, ...[0, 1, ...marks].map((value) => make(
    "text", { x: place(value), y: "0.85rem", "text-anchor": "middle", class: "quiet" },
    fixed(value, Number.isInteger(value) ? 0 : 1),
  )));
  const { by, terms } = ledger();
  key.replaceChildren(...terms.map(({ term, name }) => make(
    "span", { class: "term" }, make("span", { class: "key", style: `background: var(--mark-${by}-${term})` }),
    make("b", { style: `color: var(--text-${by}-${term})` }, name),
  )));
  rows.append(key, ...drawn.map((row) => row.element), make("div", { class: "row scale", "aria-hidden": "true" }, make("span"), axis));
  draw();
}

function draw() {
  const at = state.over ?? state.position;
  drawn.forEach(({ element, bars, input, length }, position) => {
    let up = 0, down = 0;
    const shares = sharesAt(position);
    // Constants stand at the end, where they can be left out.
    shares.forEach(({ share, role, term }, k) => {
      const start = share >= 0 ? up : down + share;
      if (share >= 0) up += share; else down += share;
      put(bars[k], { x: place(start), width: length(share) });
      const out = term === "C" && !state.constants;
      bars[k].classList.toggle("left-out", out);
      bars[k].style.fill = out ? "" : `var(--mark-${role})`;
    });
    element.classList.toggle("chosen", position === at);
    const said = shares.map(({ name, share }) => `${name} ${fixed(share)}`).join(", ");
    input.setAttribute("aria-label", `${now().tokens.predicted[position]}: ${said}`);
  });
  sayWords(at);
  saySum(at);
  writeTables(at);
}

/** The words, tinted by their share of the state; a share below zero has a dashed edge. */
function sayWords(at) {
  const { tokens } = now();
  heading.source.textContent = `What came from each word of the source, after layer ${data.layers[state.layer]} (share of the chosen state, by token):`;
  heading.read.textContent = "What came from each word of the translation so far:";
  for (const [side, group] of [["source", "S"], ["read", "T"]]) {
    const shares = now().words[side][state.layer].map((row) => of(row[at]));
    words[side].replaceChildren(...tokens[side].map((token, k) => {
      const coming = side === "read" && k > at;
      const word = make(
        "span", { role: "listitem", class: "word" },
        make("span", {}, token), make("span", { class: "number" }, coming ? "to come" : fixed(shares[k])),
      );
      word.classList.toggle("special", special(token));
      word.classList.toggle("coming", coming);
      word.classList.toggle("against", shares[k] < -0.015);
      word.dataset.value = shares[k];
      if (!coming) word.style.background = tint(host, `token-${group}`, Math.abs(shares[k]) / 0.3);
      return word;
    }));
  }
}

/** The sum in numbers: the parts of the chosen state are 1, with what is left out. */
function saySum(at) {
  const shares = sharesAt(at);
  const shown = shares.filter(({ term }) => state.constants || term !== "C");
  const left = shares.filter(({ term }) => !state.constants && term === "C");
  const term = ({ name, role, share }, k) => make(
    "span", { class: "term" }, k ? `${share < 0 && fixed(share) !== "0.00" ? "−" : "+"} ` : "",
    make("span", { class: "key", style: `background: var(--mark-${role})` }),
    make("b", { style: `color: var(--text-${role})` }, name), ` ${k ? fixed(Math.abs(share)) : fixed(share)}`,
  );
  const total = (list) => list.reduce((sum, { share }) => sum + share, 0);
  equation.replaceChildren(make("span", { class: "term" }, `“${now().tokens.predicted[at]}” =`), ...shown.map(term));
  if (left.length) {
    equation.append(
      make("span", { class: "term" }, `= ${fixed(total(shown))}`),
      make("span", { class: "left-out-text" }, `with ${left[0].name} left out: ${fixed(total(left))}. Together `),
    );
  }
  equation.append(make("b", { class: "term total", "data-value": total(shares) }, left.length ? fixed(total(shares)) : `= ${fixed(total(shares))}`));
}

function writeTables(at) {
  const { by, terms, label } = ledger();
  const { tokens } = now();
  const cell = (value) => ({ value, text: fixed(value, 3) });
  const layer = data.layers[state.layer];
  parts.tables.replaceChildren(
    table(
      `Importance of each term, ${label}, in the states after layer ${layer} of “${now().title}”`,
      ["state that predicts", ...terms.map(({ name }) => name), "sum"],
      tokens.predicted.map((token, position) => {
        const shares = sharesAt(position).map(({ share }) => share);
        return [token, ...shares.map(cell), cell(shares.reduce((sum, one) => sum + one, 0))];
      }),
    ),
    table(
      `Importance of each word, by token, in the state that predicts “${tokens.predicted[at]}”, after layer ${layer}`,
      ["word", "side", "importance"],
      ["source", "read"].flatMap((side) => tokens[side]
        .map((token, k) => [token, side === "read" ? "translation" : side, cell(of(now().words[side][state.layer][k][at]))])
        .filter((_, k) => side === "source" || k <= at)),
    ),
  );
}

host.addEventListener("coloured", () => draw());
build();
