"use strict";

// Copy buttons: to the clipboard, or, where a browser forbids it, select the text.
for (const button of document.querySelectorAll("button.copy")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.of);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "selected; now copy it";
    }
    setTimeout(() => { button.textContent = label; }, 2500);
  });
}

// On paper everything is open; afterwards as it was.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});

const inline = document.getElementById("curves-data");
if (inline) showCurves(JSON.parse(inline.textContent), document.getElementById("curves"));

function showCurves(data, root) {
  const names = Object.keys(data.choices);
  const isSlider = Object.fromEntries(names.map(
    (name) => [name, data.choices[name].every((value) => typeof value === "number")]));
  const varied = names.find((name) => isSlider[name]) ?? names[0];
  const values = data.values.map((row) => row.map(number));
  const middle = (list) => Math.round((list.length - 1) / 2);
  const chosen = Object.fromEntries(
    names.map((name) => [name, isSlider[name] ? middle(data.choices[name]) : 0]));
  let at = middle(data.x);

  const plot = root.querySelector(".plot");
  const inputs = Object.fromEntries(names.map((name) => [name, control(name)]));
  const svg = element("svg", {
    tabindex: 0, role: "slider", "aria-label": `point of the curve, by ${data.x_label}`,
    "aria-valuemin": data.x[0], "aria-valuemax": data.x.at(-1),
  }, plot);
  let scale = null;  // pixel <-> x of the last drawing

  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("keydown", (event) => {
    const far = Math.max(1, Math.round(data.x.length / 10));
    const moves = {
      ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1,
      PageDown: at - far, PageUp: at + far, Home: 0, End: data.x.length - 1,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    at = Math.min(Math.max(moves[event.key], 0), data.x.length - 1);
    draw();
  });
  addEventListener("hashchange", readHash);
  new ResizeObserver(draw).observe(plot);
  readHash();

  function control(name) {
    const options = data.choices[name];
    const label = document.createElement("label");
    label.append(name);
    const input = document.createElement(isSlider[name] ? "input" : "select");
    input.id = `choose-${name}`;
    if (isSlider[name]) {
      label.className = "slider";
      Object.assign(input, { type: "range", min: 0, max: options.length - 1, step: 1 });
      label.append(input, document.createElement("output"));
    } else {
      options.forEach((option, i) => input.add(new Option(option, i)));
      label.append(input);
    }
    input.addEventListener("input", () => {
      chosen[name] = Number(input.value);
      writeHash();
      draw();
    });
    const only = document.createElement("span");
    only.textContent = `${name} ${options[0]}`;
    root.querySelector(".controls").append(options.length > 1 ? label : only);
    return input;
  }

  // The address says what is shown: #cell=lstm&w=2
  function readHash() {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const name of names) {
      if (!asked.has(name)) continue;
      const options = data.choices[name];
      const away = options.map((value) => Math.abs(value - asked.get(name)));
      const i = isSlider[name]  // the nearest: the page may not carry every one
        ? away.indexOf(Math.min(...away)) : options.indexOf(asked.get(name));
      if (i >= 0) chosen[name] = i;
    }
    draw();
    if (names.some((name) => asked.has(name))) root.scrollIntoView();
  }

  function writeHash() {
    const shown = new URLSearchParams(names.map((name) => [name, data.choices[name][chosen[name]]]));
    history.replaceState(null, "", `#${shown}`);
  }

  function curve(choice) {
    const index = names.reduce((i, name) => i * data.choices[name].length + choice[name], 0);
    const row = values[index];
    if (!data.is_relative) return { row, drawn: row };
    const first = Number.isFinite(row[0]) ? row[0] : NaN;
    return { row, drawn: row.map((value) => value - first) };
  }

  function point(event) {
    const x = event.clientX - svg.getBoundingClientRect().left;
    const distance = data.x.map((value) => Math.abs(scale(value) - x));
    at = distance.indexOf(Math.min(...distance));
    draw();
  }

  function draw() {
    for (const name of names) {
      const value = data.choices[name][chosen[name]];
      inputs[name].value = chosen[name];
      inputs[name].setAttribute("aria-valuetext", `${name} = ${value}`);
      if (inputs[name].nextSibling) inputs[name].nextSibling.textContent = value;
    }
    const { row, drawn } = curve(chosen);
    const behind = data.choices[varied].map((_, i) => curve({ ...chosen, [varied]: i }).drawn);
    drawPlot(drawn, behind);
    readOut(row, drawn);
  }

  function drawPlot(drawn, behind) {
    const { clientWidth: width, clientHeight: height } = plot;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    const [left, right, top, bottom] = [58, width - 12, 22, height - 42];
    const finite = behind.flat().filter(Number.isFinite);
    const y = axis(finite.length ? finite : [0], bottom, top, Math.max(3, height / 60));
    const x = axis(data.x, left, right, Math.max(3, width / 110), 0);
    scale = x.place;

    element("text", { x: 0, y: 12 }, svg).textContent = data.y_label;
    element("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, svg)
      .textContent = data.x_label;
    for (const value of y.ticks) {
      const v = y.place(value);
      element("line", { class: "grid", x1: left, x2: right, y1: v, y2: v }, svg);
      const label = element("text", { class: "axis", x: left - 8, y: v + 4, "text-anchor": "end" }, svg);
      label.append("10");
      element("tspan", { dy: -5, "font-size": 9 }, label).textContent = minus(value);
    }
    for (const value of x.ticks) {
      const label = element("text", {
        class: "axis", x: x.place(value), y: bottom + 17, "text-anchor": "middle",
      }, svg);
      label.textContent = minus(value);
    }
    const line = (values, name) => element("path", { class: name, d: path(values, x, y) }, svg);
    for (const values of behind) line(values, "behind");
    line(drawn, "chosen");
    drawn.forEach((value, i) => {  // exactly zero lies below every power of ten
      if (value === -Infinity) {
        const place = { x: x.place(data.x[i]) - 1.5, y: bottom - 2, width: 3, height: 4 };
        element("rect", { class: "zero", ...place }, svg);
      }
    });
    if (drawn.every(Number.isNaN)) {
      const place = { x: (left + right) / 2, y: (top + bottom) / 2, "text-anchor": "middle" };
      element("text", { class: "nothing", ...place }, svg).textContent = "nothing to draw here";
    }
    const across = x.place(data.x[at]);
    element("line", { class: "cursor", x1: across, x2: across, y1: top, y2: bottom }, svg);
    if (Number.isFinite(drawn[at])) {
      element("circle", { class: "point", cx: across, cy: y.place(drawn[at]), r: 5 }, svg);
    }
  }

  function path(values, x, y) {
    let pen = "M";
    return values.map((value, i) => {
      if (!Number.isFinite(value)) { pen = "M"; return ""; }
      const step = `${pen}${x.place(data.x[i]).toFixed(1)} ${y.place(value).toFixed(1)}`;
      pen = "L";
      return step;
    }).join("");
  }

  function readOut(row, drawn) {
    const list = root.querySelector(".readout");
    list.replaceChildren();
    const add = (name, key, ...content) => {
      const box = document.createElement("div");
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      box.className = key === "x" ? "" : "value";
      value.dataset.of = key;
      term.textContent = name;
      value.append(...content);
      box.append(term, value);
      list.append(box);
    };
    for (const [name, readings] of Object.entries(data.also)) add(name, "x", minus(readings[at]));
    add(data.x_label, "x", minus(data.x[at]));
    if (data.is_relative) add(data.y_label, "drawn", ...inWords(drawn[at]));
    add(data.quantity, "value", ...inWords(row[at]));
    svg.setAttribute("aria-valuenow", data.x[at]);
    svg.setAttribute("aria-valuetext", list.textContent);
  }

  function inWords(value) {
    if (value === -Infinity) return ["exactly zero: log₁₀ = −∞"];
    if (!Number.isFinite(value)) return [data.unknown];
    let exponent = Math.floor(value);
    let factor = (10 ** (value - exponent)).toFixed(2);
    if (factor === "10.00") [factor, exponent] = ["1.00", exponent + 1];
    const power = document.createElement("sup");
    power.textContent = minus(exponent);
    return [`${factor} × 10`, power, `, log₁₀ = ${minus(value.toFixed(3))}`];
  }
}

function number(value) {
  return value === null ? NaN : value === "-inf" ? -Infinity : value === "inf" ? Infinity : value;
}

function minus(value) {
  return String(value).replace("-", "−");
}

// A linear axis: where values lie in pixels, and round ticks, whole numbers where least = 0.
function axis(values, from, to, most, least = 2) {
  let [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  if (high - low < least || high === low) {
    const middle = (low + high) / 2;
    const half = Math.max(least, 1) / 2;
    [low, high] = [middle - half, middle + half];
  }
  const rough = (high - low) / most;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, ten * [1, 2, 5, 10].find((factor) => factor * ten >= rough));
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick);
  return { ticks, place: (value) => from + (to - from) * (value - low) / (high - low) };
}

function element(name, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}
