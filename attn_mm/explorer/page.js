"use strict";
const manifest = JSON.parse(document.getElementById("manifest").textContent);
const byId = (id) => document.getElementById(id);
const state = { item: 0, frame: 0, view: 0, opacity: 60, step: 0, flow: 0, scale: "shared", colours: manifest.first_colours };
// Controls whose values are words.
const CHOICES = ["scale", "colours"];
const BLUE = [33, 102, 172], PALE = [245, 245, 245], RED = [178, 24, 43];
// A line may break behind the dots of a layer's name.
const breakable = (name) => name.replaceAll(".", ".\u200b");
const CARD_SIDE = 240, LARGE_SIDE = 720;

// Colours ------------------------------------------------------------------------------------------

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const blend = (from, to, part) => from.map((value, i) => Math.round(value + part * (to[i] - value)));
const signedColours = Uint8Array.from(
  Array.from({ length: 256 }, (_, i) => (i < 128 ? blend(BLUE, PALE, i / 128) : blend(PALE, RED, (i - 128) / 127))).flat(),
);
const tables = Object.fromEntries(Object.entries(manifest.colours).map(([name, table]) => [name, bytes(table)]));
const colours = (panel) => (panel.signed ? signedColours : tables[state.colours]);
// Colours along a scale, for a gradient.
const stops = (table) => Array.from({ length: 17 }, (_, i) => 3 * Math.min(255, i * 16)).map((at) => `rgb(${table.slice(at, at + 3).join(", ")})`);

function figure(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001 || size >= 10000) return value.toExponential(1);
  return value.toFixed(size < 0.01 ? 4 : size < 0.1 ? 3 : size < 100 ? 2 : 0);
}

// What the ends of a panel's colour scale stand for; `all` are the panels of the view.
function limits(panel, all) {
  const kind = manifest.kinds[panel.kind], { scales } = current.item;
  if (state.scale === "shared" && kind.bounds) return kind.bounds;
  const alike = { own: () => false, kind: () => true, shared: (other) => other.layer === panel.layer }[state.scale];
  const ranges = all.filter((other) => other.kind === panel.kind && (other.key === panel.key || alike(other))).map((other) => scales[other.key]);
  const low = Math.min(...ranges.map((range) => range[0])), high = Math.max(...ranges.map((range) => range[1]));
  if (panel.signed) {
    const end = Math.max(-low, high) || 1;
    return [-end, end];
  }
  if (!kind.bounds) return [Math.min(0, low), high > Math.min(0, low) ? high : low + 1];
  // A flat map is shown flat, not as stretched noise.
  const slack = Math.max(0, manifest.min_span - (high - low)) / 2;
  return [Math.max(kind.bounds[0], low - slack), Math.min(kind.bounds[1], high + slack)];
}

// Maps ---------------------------------------------------------------------------------------------

// Where the centres of `pixels` pixels lie among `cells` cells, of which a part shows the picture.
function places(pixels, cells, part) {
  return Array.from({ length: pixels }, (_, i) => {
    const centre = Math.min(Math.max(((i + 0.5) * cells * part) / pixels - 0.5, 0), cells - 1);
    const lower = Math.floor(centre);
    return [lower, Math.min(lower + 1, cells - 1), centre - lower];
  });
}

function values(map) {
  if (!map.values) {
    const span = (map.high - map.low) / 255;
    map.values = Float32Array.from(bytes(map.levels), (level) => map.low + span * level);
  }
  return map.values;
}

function paint(canvas, panel, view, [low, high]) {
  const [height, width] = panel.map.size, cells = values(panel.map), table = colours(panel);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const columns = places(canvas.width, width, view.valid[1]);
  let at = 0;
  for (const [top, bottom, down] of places(canvas.height, height, view.valid[0])) {
    for (const [left, right, along] of columns) {
      const upper = cells[top * width + left] * (1 - along) + cells[top * width + right] * along;
      const under = cells[bottom * width + left] * (1 - along) + cells[bottom * width + right] * along;
      const level = (upper * (1 - down) + under * down - low) / (high - low);
      const entry = 3 * Math.min(255, Math.max(0, Math.round(255 * level)));
      image.data[at++] = table[entry];
      image.data[at++] = table[entry + 1];
      image.data[at++] = table[entry + 2];
      image.data[at++] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function valueAt(panel, view, x, y) {
  const [height, width] = panel.map.size, cells = values(panel.map);
  const [left, right, along] = places(1000, width, view.valid[1])[Math.floor(1000 * x)];
  const [top, bottom, down] = places(1000, height, view.valid[0])[Math.floor(1000 * y)];
  const row = (line) => cells[line * width + left] * (1 - along) + cells[line * width + right] * along;
  return row(top) * (1 - down) + row(bottom) * down;
}

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function statistics(panel) {
  const { mean, spread, min, max } = panel.figures;
  const size = panel.full.join(" × ");
  const unit = manifest.kinds[panel.kind].over === "positions" ? "cells" : "values";
  return { short: `mean ${figure(mean)} ± ${figure(spread)}`, size: `${size} ${unit}`, range: `${figure(min)} to ${figure(max)}` };
}

// A map over its picture, with its colour scale.
function mapPicture(side) {
  const image = element("img", { alt: "" }), canvas = element("canvas", { role: "img" });
  const bar = element("span", { class: "bar" }), low = element("span"), middle = element("span"), high = element("span");
  const stats = element("span", { class: "stats" });
  const picture = element("span", { class: "picture" }, image, canvas);
  const note = element("span", { class: "note" });
  const parts = [note, picture, bar, element("span", { class: "ends" }, low, middle, high), stats];
  let shown = null;
  function rest() {
    const { short, range, size } = statistics(shown.panel);
    stats.replaceChildren(...[short, range, size].map((text) => element("span", { text })));
    if (shown.panel.flat) stats.append(element("strong", { text: shown.panel.flat }));
  }
  picture.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    if (x >= 0 && x < 1 && y >= 0 && y < 1) stats.textContent = `here ${figure(valueAt(shown.panel, shown.view, x, y))}`;
  });
  picture.addEventListener("pointerleave", rest);
  function show(panel, view, all) {
    shown = { panel, view };
    const [height, width] = view.size, ratio = side / Math.max(height, width);
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    if (image.getAttribute("src") !== view.picture) image.src = view.picture;
    const ends = limits(panel, all), about = statistics(panel);
    paint(canvas, panel, view, ends);
    canvas.setAttribute("aria-label", `${manifest.kinds[panel.kind].name}, ${panel.title || panel.layer}: ${about.short}, from ${about.range}`);
    bar.style.background = `linear-gradient(90deg, ${stops(colours(panel)).join(", ")})`;
    [low.textContent, middle.textContent, high.textContent] = thirds(ends);
    note.textContent = panel.note;
    rest();
  }
  return { parts, show };
}

function makeCard(panel) {
  const map = mapPicture(CARD_SIDE);
  const heading = element("span", { class: "title", text: panel.title || breakable(panel.layer) });
  const layer = element("span", { class: "layer", text: panel.title ? breakable(panel.layer) : "" });
  const node = element("button", { type: "button", class: "card" }, heading, layer, ...map.parts);
  const card = { node, key: panel.key, panel, show(now, view, all) { card.panel = now; map.show(now, view, all); } };
  node.addEventListener("click", () => enlarge(card, mapPicture(LARGE_SIDE)));
  return card;
}

let large = null;
function enlarge(card, parts) {
  const { panel } = card, kind = manifest.kinds[panel.kind];
  large = { key: card.key, ...parts };
  byId("large-title").textContent = [kind.name, panel.title, panel.layer].filter(Boolean).join(" · ");
  document.querySelector("#large .body").replaceChildren(...parts.parts, element("p", { class: "paper", text: kind.meaning }));
  update();
  byId("large").showModal();
}
byId("large").addEventListener("close", () => { large = null; });

// Charts -------------------------------------------------------------------------------------------

function svg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// A histogram between the bounds, with a band of a spread around the mean.
function histogram(panel) {
  const drawing = svg("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", class: "histogram" });
  const [low, high] = panel.bounds, { mean, spread } = panel.figures, top = Math.max(...panel.counts) || 1;
  const at = (value) => Math.min(100, Math.max(0, (100 * (value - low)) / (high - low)));
  const width = 100 / panel.counts.length;
  const outline = panel.counts.map((count, i) => `V${28 - (26 * count) / top}H${(i + 1) * width}`).join("");
  drawing.append(
    svg("rect", { class: "band", x: at(mean - spread), width: at(mean + spread) - at(mean - spread), y: 2, height: 26 }),
    svg("path", { class: "counts", d: `M0 28${outline}V28Z` }),
    svg("path", { class: "axis", d: "M0 28H100", "vector-effect": "non-scaling-stroke" }),
    svg("path", { class: "mean", d: `M${at(mean)} 2V28`, "vector-effect": "non-scaling-stroke" }),
  );
  const about = statistics(panel), name = [panel.layer, panel.title].filter(Boolean).join(", ");
  drawing.setAttribute("aria-label", `${name}: ${about.short}, from ${about.range}`);
  return drawing;
}

const thirds = ([low, high]) => [low, (low + high) / 2, high].map(figure);

function makeRow(panel) {
  const chart = element("span"), stats = element("span", { class: "stats" });
  const name = [panel.layer, panel.title].filter(Boolean).join(", ");
  const label = element("button", { type: "button", class: "title", text: breakable(name) });
  const row = { nodes: [label, chart, stats], key: panel.key, panel, show };
  function show(now) {
    row.panel = now;
    chart.replaceChildren(histogram(now));
    stats.replaceChildren(element("span", { text: `${figure(now.figures.mean)} ± ${figure(now.figures.spread)}` }));
    if (now.flat) stats.append(element("strong", { text: now.flat }));
    stats.title = `${now.full[0]} values, from ${statistics(now).range}`;
  }
  label.addEventListener("click", () => {
    const big = element("span", { class: "big" }), text = element("span", { class: "stats" });
    const ends = element("span", { class: "ends" }, ...thirds(panel.bounds).map((end) => element("span", { text: end })));
    enlarge(row, { parts: [big, ends, text], show(now) {
      const { short, range, size } = statistics(now);
      big.replaceChildren(histogram(now));
      text.replaceChildren(...[short, range, size, now.flat].map((line) => element("span", { text: line })));
    } });
  });
  return row;
}

// Saving a panel -----------------------------------------------------------------------------------

const EXPORT_STYLE = `text { font-family: sans-serif; fill: #23262b; }
  .band { fill: #cfe0e4; } .counts { fill: #2b6777; opacity: .55; } .mean { stroke: #23262b; stroke-width: 1.5; } .axis { stroke: #888; }`;
const pen = document.createElement("canvas").getContext("2d");

// A text in lines of at most `width` pixels.
function wrap(text, width, font) {
  pen.font = font;
  const lines = [""];
  for (const word of text.split(/(?<=[ .])/)) {
    if (lines.at(-1) && pen.measureText((lines.at(-1) + word).trimEnd()).width > width) lines.push("");
    lines[lines.length - 1] += word;
  }
  return lines;
}

// The panel as an SVG of its own: names, map or histogram, scale, figures.
function drawn(panel, view, all) {
  const kind = manifest.kinds[panel.kind], isMap = kind.over === "positions", [height, width] = view.size;
  const margin = 20, inner = isMap ? Math.max(260, Math.min(480, Math.round((480 * width) / height))) : 480;
  const root = svg("svg", { width: inner + 2 * margin }), style = svg("style", {}), defs = svg("defs", {});
  style.textContent = EXPORT_STYLE;
  root.append(style, defs);
  let y = margin;
  function write(text, size = 14, weight = 400) {
    for (const line of wrap(text, inner, `${weight} ${size}px sans-serif`)) {
      y += size * 1.35;
      const node = svg("text", { x: margin, y: y - size * 0.35, "font-size": size, "font-weight": weight });
      node.textContent = line;
      root.append(node);
    }
  }
  write(kind.name, 18, 600);
  write([panel.title, panel.layer].filter(Boolean).join(" · "));
  write([current.name, panel.note, panel.score && `score: ${panel.score}`].filter(Boolean).join(" · "));
  y += 6;
  const ends = isMap ? limits(panel, all) : panel.bounds;
  if (isMap) {
    const high = Math.round((inner * height) / width), canvas = element("canvas"), grey = svg("filter", { id: "grey" });
    canvas.width = inner;
    canvas.height = high;
    paint(canvas, panel, view, ends);
    grey.append(svg("feColorMatrix", { type: "saturate", values: 0 }));
    const gradient = svg("linearGradient", { id: "scale" }), table = stops(colours(panel));
    gradient.append(...table.map((colour, i) => svg("stop", { offset: i / (table.length - 1), "stop-color": colour })));
    defs.append(grey, gradient);
    const frame = { x: margin, y, width: inner, height: high, preserveAspectRatio: "none" };
    root.append(svg("image", { ...frame, href: view.picture, filter: "url(#grey)" }));
    root.append(svg("image", { ...frame, href: canvas.toDataURL(), opacity: state.opacity / 100 }));
    y += high + 8;
    root.append(svg("rect", { x: margin, y, width: inner, height: 10, fill: "url(#scale)" }));
    y += 12;
  } else {
    const chart = histogram(panel);
    for (const [key, value] of Object.entries({ x: margin, y, width: inner, height: 140 })) chart.setAttribute(key, value);
    root.append(chart);
    y += 142;
  }
  y += 14;
  for (const [i, text] of thirds(ends).entries()) {
    const node = svg("text", { x: margin + (inner * i) / 2, y, "font-size": 14, "text-anchor": ["start", "middle", "end"][i] });
    node.textContent = text;
    root.append(node);
  }
  y += 8;
  const { short, range, size } = statistics(panel);
  write(`${short}, ${range}, ${size}`);
  if (panel.flat) write(panel.flat, 14, 600);
  write(kind.meaning);
  write(kind.paper);
  root.setAttribute("height", Math.round(y + margin));
  root.prepend(svg("rect", { width: "100%", height: "100%", fill: "#ffffff" }));
  return root;
}

const asText = (root) => new XMLSerializer().serializeToString(root);

function asCanvas(root) {
  return new Promise((resolve, reject) => {
    const image = new Image(), canvas = element("canvas");
    image.onload = () => {
      // Twice the size, for print and for screens of high density.
      canvas.width = 2 * root.getAttribute("width");
      canvas.height = 2 * root.getAttribute("height");
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      resolve(canvas);
    };
    image.onerror = reject;
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(asText(root))}`;
  });
}

function fileName(ending) {
  const name = [current.name, ...large.key.split("|")].join("_").replace(/[^\p{L}\p{N}.=-]+/gu, "_");
  return `${name}.${ending}`;
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

const enlarged = () => drawn(large.panel, ...large.among);
byId("save-svg").addEventListener("click", () => save(new Blob([asText(enlarged())], { type: "image/svg+xml" }), fileName("svg")));
byId("save-png").addEventListener("click", async () => {
  // The panel may be closed, or another picture chosen, before the image is ready.
  const name = fileName("png");
  (await asCanvas(enlarged())).toBlob((blob) => save(blob, name));
});

// The page's parts ---------------------------------------------------------------------------------

const frames = new Map(), waiting = new Map();
// Called by the files in data/.
window.addFrame = (file, content) => { frames.set(file, content); };

// From file:// a page may fetch nothing, but it may load scripts.
function load(file) {
  if (!waiting.has(file)) {
    waiting.set(file, new Promise((resolve, reject) => {
      const script = element("script", { src: file });
      script.onload = () => resolve(frames.get(file));
      script.onerror = () => reject(new Error(file));
      document.head.append(script);
    }));
  }
  return waiting.get(file);
}

let cards = [], signature = "";
function build(panels, hasOwn, isExplained) {
  cards = [];
  const sections = new Map();
  for (const panel of panels) {
    if (!sections.has(panel.kind)) sections.set(panel.kind, []);
    sections.get(panel.kind).push(panel);
  }
  const nodes = [...sections].map(([number, group]) => {
    const kind = manifest.kinds[number];
    const section = element("section", { "aria-label": kind.name },
      element("h2", { text: kind.name }), element("p", { text: kind.meaning }), element("p", { class: "paper", text: kind.paper }));
    const scores = [...new Set(group.map((panel) => panel.score).filter(Boolean))];
    if (scores.length) section.append(element("p", { class: "score", text: `The score: ${scores.join("; ")}` }));
    section.append(...(kind.over === "positions" ? maps(group) : [chart(group)]));
    return section;
  });
  if (!hasOwn) nodes.unshift(element("p", { text: "The network has no attention of its own." }));
  if (!isExplained) nodes.push(element("p", { text: "No Grad-CAM: nothing was found here whose score it could explain." }));
  byId("sections").replaceChildren(...nodes);
}

function maps(group) {
  const flows = [...new Set(group.map((panel) => panel.place.flow || 0))];
  return flows.map((flow) => {
    const grid = element("div", { class: "grid" });
    for (const panel of group.filter((other) => (other.place.flow || 0) === flow)) {
      const card = makeCard(panel);
      cards.push(card);
      grid.append(card.node);
    }
    return flows.length > 1 ? element("div", { class: "group" }, element("h3", { text: `Flow ${flow}` }), grid) : grid;
  });
}

function chart(group) {
  const ends = element("span", { class: "ends" }, ...thirds(group[0].bounds).map((end) => element("span", { text: end })));
  const node = element("div", { class: "chart" }, element("span", { class: "none" }), ends, element("span", { class: "stats", text: "mean ± spread" }));
  for (const panel of group) {
    const row = makeRow(panel);
    cards.push(row);
    node.append(...row.nodes);
  }
  return node;
}

let current = null;
function update() {
  if (!current) return;
  const view = current.views[Math.min(state.view, current.views.length - 1)];
  if (!view) {
    byId("sections").replaceChildren(element("p", { text: "Nobody was found here, so there is nothing that the network was shown." }));
    signature = "";
    return;
  }
  const chosen = view.panels.filter((panel) => ["step", "flow"].every((name) => !state[name] || !panel.place[name] || panel.place[name] === state[name]));
  const now = chosen.map((panel) => panel.key + panel.score).join("\n");
  if (now !== signature) {
    signature = now;
    build(chosen, view.panels.some((panel) => !panel.score), view.panels.some((panel) => panel.score));
  }
  const byKey = new Map(chosen.map((panel) => [panel.key, panel]));
  // Among all panels of the view: no scale changes when others are hidden.
  for (const card of cards) card.show(byKey.get(card.key), view, view.panels);
  if (large && byKey.has(large.key)) {
    Object.assign(large, { panel: byKey.get(large.key), among: [view, view.panels] });
    large.show(large.panel, ...large.among);
  }
}

function caption(item) {
  const [image, text] = byId("found").children;
  image.src = current.found;
  image.alt = `${item.name}: what the network found`;
  text.textContent = current.name;
  byId("objects").replaceChildren(...current.objects.map(({ name, score }) =>
    element("li", {}, element("span", { text: name }), element("span", { class: "stats", text: score.toFixed(3) }),
      element("meter", { min: 0, max: 1, value: score, "aria-label": name }))));
  const more = current.total - current.objects.length;
  if (more) byId("objects").append(element("li", { class: "stats", text: `and ${more} more` }));
  if (!current.objects.length) byId("objects").append(element("li", { text: "nothing above the score threshold" }));
}

function control(name, shown) { document.querySelector(`[data-control="${name}"]`).hidden = !shown; }

function controls(item) {
  const view = current.views[Math.min(state.view, current.views.length - 1)];
  const select = byId("view");
  select.replaceChildren(...current.views.map((other, i) => element("option", { value: i, text: other.label })));
  select.value = Math.min(state.view, current.views.length - 1);
  control("view", current.views.length > 1);
  const all = current.views.length === current.total;
  document.querySelector('label[for="view"]').textContent = all ? "Person" : `Person (${current.views.length} of ${current.total})`;
  control("frame", item.frames.length > 1);
  byId("frame").max = item.frames.length - 1;
  byId("frame").value = state.frame;
  document.querySelector('output[for="frame"]').textContent = `${item.frames[state.frame].index} (${state.frame + 1} of ${item.frames.length})`;
  byId("opacity").value = state.opacity;
  document.querySelector('output[for="opacity"]').textContent = `${state.opacity} %`;
  document.documentElement.style.setProperty("--opacity", state.opacity / 100);
  for (const name of ["step", "flow"]) {
    const last = Math.max(0, ...(view ? view.panels : []).map((panel) => panel.place[name] || 0));
    control(name, last > 1);
    state[name] = Math.min(state[name], last);
    byId(name).max = last;
    byId(name).value = state[name];
    document.querySelector(`output[for="${name}"]`).textContent = state[name] ? `${state[name]} of ${last}` : "all";
  }
  for (const name of CHOICES) byId(name).value = state[name];
}

function remember() {
  const parts = Object.entries(state).map(([key, value]) => `${key}=${value}`);
  history.replaceState(null, "", `#${parts.join("&")}`);
}

function recall() {
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    if (CHOICES.includes(key)) {
      if ([...byId(key).options].some((option) => option.value === value)) state[key] = value;
    } else if (key in state && /^\d+$/.test(value)) state[key] = Number(value);
  }
  state.opacity = Math.min(100, state.opacity);
}

async function show() {
  state.item = Math.min(state.item, manifest.items.length - 1);
  const item = manifest.items[state.item];
  state.frame = Math.min(state.frame, item.frames.length - 1);
  const { file } = item.frames[state.frame];
  let content;
  try {
    content = await load(file);
  } catch {
    byId("sections").replaceChildren(element("p", { text: `${file} is missing: keep it beside this page.` }));
    signature = "";
    return;
  }
  // The slider may have moved on while the file came.
  if (file !== manifest.items[state.item].frames[state.frame].file) return;
  const { index } = item.frames[state.frame];
  // While the next file loads, what is shown is still of this item.
  current = Object.assign(content, { item, name: item.frames.length > 1 ? `${item.name}, frame ${index}` : item.name });
  const next = item.frames[(state.frame + 1) % item.frames.length].file;
  load(next).catch(() => {});
  for (const [place, button] of [...byId("pictures").children].entries()) button.setAttribute("aria-current", place === state.item);
  controls(item);
  caption(item);
  update();
  remember();
}

function pick(place) {
  Object.assign(state, { item: place, frame: 0, view: 0 });
  show();
}

function start() {
  byId("about").textContent = manifest.about.join(" · ");
  manifest.items.forEach((item, place) => {
    const button = element("button", { type: "button", title: item.name }, element("img", { src: item.thumb, alt: "" }), element("span", { text: item.name }));
    button.addEventListener("click", () => pick(place));
    byId("pictures").append(button);
  });
  byId("pictures").hidden = manifest.items.length < 2;
  byId("pictures").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const place = [...byId("pictures").children].indexOf(document.activeElement) + by;
    if (!by || !(place in manifest.items)) return;
    event.preventDefault();
    byId("pictures").children[place].focus();
    pick(place);
  });
  for (const name of ["view", "frame", "opacity", "step", "flow", ...CHOICES]) {
    byId(name).addEventListener("input", ({ target }) => {
      state[name] = CHOICES.includes(name) ? target.value : Number(target.value);
      show();
    });
  }
  let timer = null;
  byId("play").addEventListener("click", () => {
    byId("play").textContent = timer ? "Play" : "Pause";
    timer = timer ? clearInterval(timer) : setInterval(() => {
      state.frame = (state.frame + 1) % manifest.items[state.item].frames.length;
      show();
    }, 250);
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { recall(); show(); });
  recall();
  show();
}
start();
