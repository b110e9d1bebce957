(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("layer-data").textContent);
  const models = document.getElementById("layer-model");
  const layers = document.getElementById("layer-name");
  const W = 340, H = 230, LEFT = 50, RIGHT = 10, TOP = 26, BOTTOM = 40;
  const ANN = "var(--blue)", SNN = "var(--orange)", THIRD = "var(--teal)";

  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const escaped = text => String(text).replace(/[&<>"]/g, c => "&#" + c.charCodeAt(0) + ";");
  const short = x => String(Math.abs(x) >= 100 ? Math.round(x) : +x.toPrecision(3));

  function ticks(low, high) {
    const raw = (high - low) / 4, size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map(m => m * size).find(s => s >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
    return found;
  }

  class Panel {
    constructor(title, xlabel, ylabel, [x0, x1], [y0, y1], yticks) {
      Object.assign(this, {title, xlabel, ylabel, x0, x1, y0, y1, body: ""});
      this.yticks = yticks || ticks(y0, y1).map(y => [y, short(y)]);
    }
    x(v) { return +(LEFT + (v - this.x0) / (this.x1 - this.x0) * (W - LEFT - RIGHT)).toFixed(2); }
    y(v) { return +(H - BOTTOM - (v - this.y0) / (this.y1 - this.y0) * (H - TOP - BOTTOM)).toFixed(2); }
    line(points, color, dash) {
      this.body += `<polyline fill="none" stroke="${color}" stroke-width="1.6" ` +
        (dash ? `stroke-dasharray="${dash}" ` : "") +
        `points="${points.map(([a, b]) => this.x(a) + "," + this.y(b)).join(" ")}"/>`;
    }
    legend(names) {
      names.forEach(([name, color, dash], i) => {
        const y = TOP + 9 + 14 * i, x = W - RIGHT - 62;
        this.body += `<line x1="${x}" x2="${x + 22}" y1="${y}" y2="${y}" stroke="${color}" stroke-width="1.8"` +
          (dash ? ` stroke-dasharray="${dash}"` : "") + `/><text x="${x + 28}" y="${y + 4}">${name}</text>`;
      });
    }
    svg(alt) {
      let out = `<svg role="img" viewBox="0 0 ${W} ${H}" aria-label="${escaped(this.title + ". " + alt)}">` +
        `<text class="title" x="4" y="15">${escaped(this.title)}</text>`;
      for (const x of ticks(this.x0, this.x1)) {
        out += `<line class="grid" x1="${this.x(x)}" x2="${this.x(x)}" y1="${TOP}" y2="${H - BOTTOM}"/>` +
          `<text text-anchor="middle" x="${this.x(x)}" y="${H - BOTTOM + 14}">${short(x)}</text>`;
      }
      for (const [y, text] of this.yticks) {
        out += `<line class="grid" x1="${LEFT}" x2="${W - RIGHT}" y1="${this.y(y)}" y2="${this.y(y)}"/>` +
          `<text text-anchor="end" x="${LEFT - 5}" y="${this.y(y) + 4}">${text}</text>`;
      }
      return out + this.body + `<path class="axis" d="M${LEFT} ${TOP}V${H - BOTTOM}H${W - RIGHT}"/>` +
        `<text text-anchor="middle" x="${(LEFT + W - RIGHT) / 2}" y="${H - 6}">${escaped(this.xlabel)}</text>` +
        `<text text-anchor="middle" transform="translate(12 ${(TOP + H - BOTTOM) / 2}) rotate(-90)">${escaped(this.ylabel)}</text></svg>`;
    }
  }

  function raster(model, layer) {
    const panel = new Panel("Spikes of some neurons", "time step", "neuron, slow to busy",
                            [0.5, model.steps + 0.5], [0.5, layer.rows + 0.5]);
    const width = Math.max(1.2, (W - LEFT - RIGHT) / model.steps * 0.8);
    const height = Math.max(1.2, (H - TOP - BOTTOM) / layer.rows * 0.75);
    for (const [key, color] of [["plus", ANN], ["minus", SNN]]) {
      if (!layer[key]) continue;
      const bits = bytes(layer[key]);
      let path = "";
      for (let n = 0; n < layer.rows; n++) for (let t = 0; t < model.steps; t++) {
        const i = n * model.steps + t;
        if (bits[i >> 3] >> (i & 7) & 1) path += `M${panel.x(t + 1) - width / 2} ${panel.y(n + 1)}h${width}`;
      }
      panel.body += `<path d="${path}" stroke="${color}" stroke-width="${height}"/>`;
    }
    return panel.svg(layer.minus ? "Blue: positive spikes, orange: negative ones." : "A mark for each spike.");
  }

  const shares = text => Array.from(bytes(text), q => q ? 10 ** (((q - 1) / 254 - 1) * data.decades) : 0);

  function rates(layer) {
    const found = shares(layer.rates), top = 100 * Math.max(...found);
    const panel = new Panel("Firing rates", "spikes a neuron and step, %", "share of neurons, %", [0, 100], [0, top * 1.05]);
    found.forEach((share, i) => {
      const width = 100 / found.length, x = panel.x(i * width), y = panel.y(100 * share);
      panel.body += `<rect x="${x + 0.5}" y="${y}" width="${panel.x((i + 1) * width) - x - 1}" height="${panel.y(0) - y}" fill="${ANN}"/>`;
    });
    return panel.svg(`${short(100 * found[0])} percent of the neurons lie in the lowest class.`);
  }

  function membranes(model, layer) {
    if (!layer.membranes) return "";
    const [low, high, count, text] = layer.membranes, values = bytes(text);
    const panel = new Panel("Membranes of three neurons", "time step", "potential / threshold", [1, Math.max(2, model.steps)],
                            [low, high > low ? high : low + 1]);
    for (let n = 0; n < count; n++) {
      const points = [];
      for (let t = 0; t < model.steps; t++) points.push([t + 1, low + (high - low) * values[n * model.steps + t] / 255]);
      panel.line(points, [ANN, SNN, THIRD][n % 3], ["", "6 3", "2 2"][n % 3]);
    }
    return panel.svg(`Potentials between ${short(low)} and ${short(high)} thresholds.`);
  }

  function pairs(model, layer) {
    if (!layer.pairs) return "";
    const [top, text] = layer.pairs, values = bytes(text), half = values.length / 2;
    const panel = new Panel("ANN against SNN", "ANN, value / threshold", "SNN, value / threshold", [0, top], [0, top]);
    panel.line([[0, 0], [top, top]], "var(--soft)", "4 3");
    for (let i = 0; i < half; i++) {
      panel.body += `<circle r="2.4" fill="${ANN}" fill-opacity="0.6" cx="${panel.x(top * values[i] / 255)}" cy="${panel.y(top * values[half + i] / 255)}"/>`;
    }
    return panel.svg("Each mark is a neuron; on the dashed line both agree.");
  }

  function distribution(title, xlabel, [low, high], ann, snn) {
    if (!snn) return "";
    const decades = Math.min(data.decades, 4), yticks = [];
    for (let d = -decades; d <= 0; d++) yticks.push([d, String(10 ** (d + 2))]);
    const panel = new Panel(title, xlabel, "share of values, % (log)", [low, high], [-decades, 0.1], yticks);
    const both = [["ANN", ann, ANN, ""], ["SNN", snn, SNN, "5 3"]].filter(row => row[1]);
    for (const [, text, color, dash] of both) {
      const found = shares(text), width = (high - low) / found.length, points = [];
      found.forEach((share, i) => {
        const y = Math.max(-decades, share > 0 ? Math.log10(share) : -decades);
        points.push([low + i * width, y], [low + (i + 1) * width, y]);
      });
      panel.line(points, color, dash);
    }
    panel.legend(both.map(([name, , color, dash]) => [name, color, dash]));
    return panel.svg("Shares of the layer's values in classes, ANN and SNN.");
  }

  function show() {
    const model = data.models[models.value], layer = model.layers[layers.value];
    document.getElementById("layer-text").textContent =
      layer.text.replace(/^Panels:[^.]*\. /, "") + 
      ` ${model.images} images were watched, the first of them step by step.` +
      (model.window ? ` The SNN's value is the ${model.window}.` : "");
    document.getElementById("layer-panels").innerHTML = [
      raster(model, layer), rates(layer), membranes(model, layer), pairs(model, layer),
      distribution("Activations", "value / threshold", data.sent, layer.sent_ann, layer.sent_snn),
      distribution("Before the activation", "charge a step / threshold", data.read, layer.read_ann, layer.read_snn),
    ].filter(Boolean).map(svg => `<figure>${svg}</figure>`).join("");
  }

  function fill() {
    const model = data.models[models.value];
    layers.innerHTML = model.layers.map((layer, i) => `<option value="${i}">${escaped(layer.name)}</option>`).join("");
    layers.value = model.first;
    show();
  }

  models.innerHTML = data.models.map((model, i) => `<option value="${i}">${escaped(model.name)}</option>`).join("");
  models.addEventListener("change", fill);
  layers.addEventListener("change", show);
  fill();
})();
