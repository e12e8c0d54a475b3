// What the pictures share: elements, controls, colours that can be read, scales, tables, and statistics.
// The three stand inside one function of their own, and leave no name behind.

const DRAWN = new Set(["svg", "g", "path", "line", "rect", "circle", "text"]);

/** An element with attributes and children; a function among the attributes listens to the event that it names. */
function make(name, attributes = {}, ...children) {
  const element = DRAWN.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function put(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** A number with a true minus; what is not there is a dash. */
function fixed(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
}

/** A number of four digits, whatever its size. */
function digits(value, count = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e6 ? String(Number(size.toPrecision(count))) : size.toExponential(count - 1);
  return (value < 0 ? "−" : "") + text;
}

// ---------------------------------------------------------------------------------------------------- controls

let names = 0;

/** One of few, as a row of radio buttons. */
function segments(legend, options, chosen, change) {
  const name = `choice-${names++}`;
  const row = make("div", { class: "segments" });
  const inputs = options.map(({ value, label }) => {
    const input = make("input", { type: "radio", name, value, change: () => change(value) });
    input.checked = value === chosen;
    row.append(make("label", {}, input, label));
    return input;
  });
  const element = make("fieldset", { class: "control" }, make("legend", {}, legend), row);
  return { element, set: (value) => inputs.forEach((input) => (input.checked = input.value === String(value))) };
}

/** One of many. */
function menu(label, options, chosen, change) {
  const list = make("select", { change: () => change(list.value) });
  const fill = (given, value) => {
    list.replaceChildren(...given.map((one) => make("option", { value: one.value }, one.label)));
    list.value = value;
  };
  fill(options, chosen);
  return { element: make("label", { class: "control" }, make("span", {}, label), list), fill, list };
}

/** A number between two others; what it stands for is said above the track, and to a screen reader. */
function slider(label, least, most, value, say, change) {
  const track = make("input", { type: "range", min: least, max: most, step: 1 });
  const words = make("span", {});
  const set = (given) => {
    track.value = given;
    words.textContent = `${label}: ${say(Number(track.value))}`;
    track.setAttribute("aria-valuetext", say(Number(track.value)));
  };
  track.addEventListener("input", () => { set(track.value); change(Number(track.value)); });
  const limit = (low, high) => { put(track, { min: low, max: high }); set(track.value); };
  set(value);
  return { element: make("label", { class: "control grow" }, words, track), set, limit, track };
}

function check(label, chosen, change) {
  const box = make("input", { type: "checkbox", change: () => change(box.checked) });
  box.checked = chosen;
  return { element: make("label", { class: "check" }, box, label), box };
}

/** A table with a caption. A cell is a text, or a number with the text that shows it; rows open with their head. */
function table(caption, heads, rows) {
  const cell = (one, place) => {
    if (place === 0) return make("th", { scope: "row" }, one);
    if (one !== null && typeof one === "object") return make("td", { "data-value": one.value }, one.text);
    return make("td", {}, one);
  };
  return make(
    "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    make(
      "table", {},
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))),
    ),
  );
}

/** The frame of a picture, in a tree of its own: no style or name of the page reaches in, none of ours reaches out. */
function open(host, data, style) {
  const root = host.attachShadow({ mode: "open" });
  const part = (name, attributes = {}) => make("div", { class: name, ...attributes });
  const parts = { controls: part("controls"), stage: part("stage"), said: make("p", { class: "said", "aria-live": "polite" }) };
  parts.tables = make("div");
  parts.figure = make(
    "figure", { "aria-labelledby": "title" },
    make("p", { id: "title", class: "title" }, data.title),
    parts.controls, parts.stage, parts.said,
    make("figcaption", {}, data.caption),
    make("details", {}, make("summary", {}, "The numbers of this picture, as a table"), parts.tables),
  );
  root.append(make("style", {}, style), parts.figure);
  // Keys pressed in a picture are the picture's: JupyterLab would move to another cell, for it sees no field in here.
  host.addEventListener("keydown", (event) => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); });
  colour(host, data.colours);
  return parts;
}

/** Call `draw(width)` now, and again when the width of an element changes. */
function whenSized(element, draw) {
  let width = 0;
  const look = () => {
    const now = Math.round(element.getBoundingClientRect().width);
    if (now > 0 && now !== width) draw((width = now));
  };
  new ResizeObserver(look).observe(element);
  return () => { if (width > 0) draw(width); };
}

/** Call a slow function once a frame at most. */
function once(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; work(); });
  };
}

// ---------------------------------------------------------------------------------------------------- colours

function parsed(text) {
  if (text.startsWith("#")) return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  const found = (text.match(/[\d.]+/g) || []).map(Number);
  return text.startsWith("color(") ? found.slice(0, 3).map((one) => 255 * one).concat(found.slice(3)) : found;
}

const written = (rgb) => `rgb(${rgb.slice(0, 3).map((one) => Math.round(one)).join(", ")})`;
const mixed = (one, two, share) => [0, 1, 2].map((k) => one[k] * (1 - share) + two[k] * share);

function luminance(rgb) {
  const linear = rgb.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function contrast(one, two) {
  const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function withLightness(rgb, lightness, dimmed) {
  const [r, g, b] = rgb.map((one) => one / 255);
  const high = Math.max(r, g, b), low = Math.min(r, g, b), spread = high - low, now = (high + low) / 2;
  const saturation = (dimmed ? 0.75 : 1) * (spread === 0 ? 0 : spread / (1 - Math.abs(2 * now - 1)));
  let hue = 0;
  if (spread) hue = high === r ? ((g - b) / spread + 6) % 6 : high === g ? (b - r) / spread + 2 : (r - g) / spread + 4;
  const reach = saturation * Math.min(lightness, 1 - lightness);
  const channel = (n) => {
    const k = (n + hue * 2) % 12;
    return 255 * (lightness - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  };
  return [channel(0), channel(8), channel(4)];
}

const lightnessOf = (rgb) => (Math.max(...rgb) + Math.min(...rgb)) / 510;

/** The hue, on this paper: its lightness turned round in the dark, and moved until it stands out by `ratio` to 1. */
function legible(rgb, paper, ratio) {
  const dark = luminance(paper) < 0.18;
  let lightness = dark ? 1 - lightnessOf(rgb) : lightnessOf(rgb);
  let found = withLightness(rgb, lightness, dark);
  while (contrast(found, paper) < ratio && lightness > 0.02 && lightness < 0.98) {
    lightness += dark ? 0.02 : -0.02;
    found = withLightness(rgb, lightness, dark);
  }
  return found;
}

/** The first opaque ground behind an element: the page's paper in the book, in JupyterLab, in light and in dark. */
function paperBehind(element) {
  for (let up = element; up; up = up.parentElement || (up.getRootNode().host ?? null)) {
    const found = parsed(getComputedStyle(up).backgroundColor);
    if (found.length === 3 || (found.length > 3 && found[3] === 1)) return found.slice(0, 3);
  }
  return [255, 255, 255];
}

/** Set the colours of a picture as CSS variables, `--mark-NAME` at 3:1 and `--text-NAME` at 4.5:1, for the page's theme. */
function colour(host, palette) {
  const set = (printing) => {
    const paper = printing ? [255, 255, 255] : paperBehind(host);
    const far = luminance(paper) < 0.18 ? [255, 255, 255] : [0, 0, 0];
    let ink = printing ? [17, 17, 17] : parsed(getComputedStyle(host).color).slice(0, 3);
    if (ink.length < 3 || contrast(ink, paper) < 7) ink = mixed(far, paper, 0.1);
    let muted = mixed(ink, paper, 0.35);
    if (contrast(muted, paper) < 4.6) muted = ink;
    const variables = {
      paper, ink, muted,
      rule: mixed(ink, paper, contrast(mixed(ink, paper, 0.5), paper) >= 3 ? 0.5 : 0.4),
      wash: mixed(ink, paper, 0.89),
      accent: legible([0x1f, 0x5a, 0x8f], paper, 4.5),
    };
    for (const [name, value] of Object.entries(palette)) {
      variables[`mark-${name}`] = legible(parsed(value), paper, 3.05);
      variables[`text-${name}`] = legible(parsed(value), paper, 4.6);
    }
    for (const [name, value] of Object.entries(variables)) host.style.setProperty(`--${name}`, written(value));
    host.dispatchEvent(new Event("coloured"));
  };
  const again = () => { set(matchMedia("print").matches); setTimeout(() => set(matchMedia("print").matches), 400); };
  const observer = new MutationObserver(again);
  for (const one of [document.documentElement, document.body]) {
    observer.observe(one, { attributes: true, attributeFilter: ["class", "data-theme", "data-jp-theme-name", "data-jp-theme-light"] });
  }
  matchMedia("print").addEventListener("change", again);
  addEventListener("beforeprint", () => set(true));
  addEventListener("afterprint", () => set(false));
  set(false);
}

/** Paper with as much of a hue as leaves the ink readable on it. */
function tint(host, name, share) {
  const of = (variable) => parsed(host.style.getPropertyValue(`--${variable}`));
  let strength = 0.65 * Math.min(1, share);
  while (strength > 0.02 && contrast(of("ink"), mixed(of("paper"), of(`mark-${name}`), strength)) < 4.6) strength -= 0.02;
  return written(mixed(of("paper"), of(`mark-${name}`), Math.max(0, strength)));
}

// ---------------------------------------------------------------------------------------------------- scales

const scale = ([low, high], [from, to]) => (value) => from + ((value - low) / (high - low)) * (to - from);

/** Round numbers within a range, about `count` of them, and how many decimals they need. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return { values: found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function extent(values, pad = 0.05) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  if (!(low < high)) return [low - 0.5, high + 0.5];
  return [low - pad * (high - low), high + pad * (high - low)];
}

const pathOf = (points) => points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

// ---------------------------------------------------------------------------------------------------- statistics

/** Mid-ranks, from 1; equal values share the mean of their ranks. */
function ranks(values) {
  const order = values.map((_, k) => k).sort((a, b) => values[a] - values[b]);
  const found = new Array(values.length);
  for (let k = 0; k < order.length; ) {
    let end = k;
    while (end + 1 < order.length && values[order[end + 1]] === values[order[k]]) end++;
    for (let j = k; j <= end; j++) found[order[j]] = (k + end) / 2 + 1;
    k = end + 1;
  }
  return found;
}

function correlation(x, y) {
  const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
  const [a, b] = [mean(x), mean(y)];
  let xy = 0, xx = 0, yy = 0;
  for (let k = 0; k < x.length; k++) {
    xy += (x[k] - a) * (y[k] - b);
    xx += (x[k] - a) ** 2;
    yy += (y[k] - b) ** 2;
  }
  return Math.max(-1, Math.min(1, xy / Math.sqrt(xx * yy)));
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1), below = Math.floor(place), above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

function logGamma(x) {
  const c = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ];
  if (x >= 20) {  // Stirling, whose terms are exact here to the last digit
    const y = 1 / (x * x);
    const series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x;
    return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
  }
  let sum = c[0];
  for (let k = 1; k < 9; k++) sum += c[k] / (x - 1 + k);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

/** Chi-squared on df: the probabilities [below x, above x], the smaller of them to full precision. */
function chiSquaredTails(x, df) {
  const a = df / 2, z = x / 2;
  if (!(z > 0)) return [0, 1];
  const front = Math.exp(-z + a * Math.log(z) - logGamma(a));
  if (z < a + 1) {
    let term = 1 / a, sum = term;
    for (let n = 1; n < 100000 && term > sum * 1e-17; n++) sum += term *= z / (a + n);
    return [sum * front, 1 - sum * front];
  }
  const tiny = 1e-300;  // Lentz's continued fraction
  let b = z + 1 - a, c = 1 / tiny, d = 1 / b, h = d;
  for (let n = 1; n < 100000; n++) {
    const an = -n * (n - a);
    b += 2;
    d = 1 / (Math.abs(an * d + b) < tiny ? tiny : an * d + b);
    c = Math.abs(b + an / c) < tiny ? tiny : b + an / c;
    h *= d * c;
    if (Math.abs(d * c - 1) < 1e-16) break;
  }
  return [1 - front * h, front * h];
}

/** The value below which chi-squared on df lies with this probability: Newton's steps, held between bounds. */
function chiSquaredQuantile(probability, df) {
  const upper = probability > 0.5;
  const off = (x) => (upper ? 1 - probability - chiSquaredTails(x, df)[1] : chiSquaredTails(x, df)[0] - probability);
  let low = 0, high = Math.max(10, 2 * df);
  while (off(high) < 0) high *= 2;
  let x = df / 2 + 0.1;
  for (let step = 0; step < 200; step++) {
    const gap = off(x);
    if (gap > 0) high = x; else low = x;
    const density = Math.exp((df / 2 - 1) * Math.log(x / 2) - x / 2 - logGamma(df / 2)) / 2;
    let next = x - gap / density;
    if (!(next > low && next < high)) next = (low + high) / 2;
    if (Math.abs(next - x) <= 1e-14 * x) return next;
    x = next;
  }
  return x;
}

/** The normal value below which lies this probability (Acklam's rational approximation, to 1e-9). */
function normalQuantile(p) {
  if (p > 0.5) return -normalQuantile(1 - p);
  const fraction = (above, below, x) => above.reduce((sum, one) => sum * x + one, 0) / below.reduce((sum, one) => sum * x + one, 0);
  if (p < 0.02425) {
    return fraction(
      [-7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783],
      [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1], Math.sqrt(-2 * Math.log(p)));
  }
  const q = p - 0.5;
  return q * fraction(
    [-3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.383577518672690e2, -3.066479806614716e1, 2.506628277459239],
    [-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1], q * q);
}

/** Uniform numbers from a seed (mulberry32). */
function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Normal draws, one from each of `count` equal slices of probability, shuffled: tails are as full as they should be. */
function normalDraws(count, seed) {
  const random = uniform(seed), found = new Float64Array(count);
  for (let k = 0; k < count; k++) found[k] = normalQuantile((k + 0.0005 + 0.999 * random()) / count);
  for (let k = count - 1; k > 0; k--) {
    const other = Math.floor(random() * (k + 1));
    [found[k], found[other]] = [found[other], found[k]];
  }
  return found;
}

/** Chi-squared draws on df from normal ones: equal probabilities, by a table of exact quantiles, linear in between. */
function chiSquaredDraws(normals, df) {
  const step = 0.02, end = 6, size = Math.round((2 * end) / step);
  const logs = Float64Array.from({ length: size + 2 }, (_, k) => {
    const z = Math.min(end, k * step - end), tail = chiSquaredTails(z * z, 1)[1] / 2;
    return Math.log(chiSquaredQuantile(z < 0 ? tail : 1 - tail, df));
  });
  return normals.map((z) => {
    const place = Math.max(0, Math.min(size - 1e-9, (z + end) / step)), below = Math.floor(place);
    return Math.exp(logs[below] + (place - below) * (logs[below + 1] - logs[below]));
  });
}
