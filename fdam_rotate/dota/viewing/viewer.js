(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const boxes = new Boxes(data.boxes);
  const classes = data.boxes.classes;
  const byId = (id) => document.getElementById(id);
  const stage = byId("stage");
  const canvas = byId("image");
  const context = canvas.getContext("2d", { alpha: false });
  const overlay = byId("boxes");
  const above = overlay.getContext("2d");

  const shown = { least: data.least, on: classes.map(() => true) };
  const view = { x: data.width / 2, y: data.height / 2, zoom: 1, whole: true }; // middle; screen pixels a pixel
  let chosen = -1;
  let waiting = false;

  const MOST_ZOOM = 40;
  const MOST_TILES = 800; // kept decoded, 256 KiB each
  const SMALLEST = 2.5; // screen pixels; of many boxes smaller ones are drawn as dots
  const FEW = 1000; // up to so many boxes in sight have smooth lines with a dark rim
  const number = new Intl.NumberFormat("en");

  // ---- tiles

  const levels = data.levels; // finest first
  const decoded = new Map(); // "level:tile" -> Image, or null while it is decoded; the last used last

  function tile(level, key) {
    const name = `${level}:${key}`;
    if (decoded.has(name)) {
      const image = decoded.get(name);
      decoded.delete(name);
      decoded.set(name, image);
      return image;
    }
    const image = new Image();
    image.src = `data:image/jpeg;base64,${levels[level].tiles[key]}`;
    decoded.set(name, null);
    image.decode().then(() => {
      if (decoded.has(name)) decoded.set(name, image);
      draw();
    }, () => {});
    return null;
  }

  function drawTiles(edges, ratio) {
    // the coarsest scale first: what is finer is laid over it as far as it is there
    let finest = levels.length - 1;
    while (finest > 0 && levels[finest].scale * view.zoom * ratio > 1.2) finest--;
    for (let k = levels.length - 1; k >= finest; k--) {
      const { scale, columns, rows, tiles } = levels[k];
      const side = scale * data.tile;
      context.imageSmoothingEnabled = scale > 1 || view.zoom * ratio < 3; // beyond, pixels are seen as they are
      const last = [Math.min(columns - 1, Math.floor(edges.right / side)), Math.min(rows - 1, Math.floor(edges.bottom / side))];
      for (let row = Math.max(0, Math.floor(edges.top / side)); row <= last[1]; row++) {
        for (let column = Math.max(0, Math.floor(edges.left / side)); column <= last[0]; column++) {
          const key = row * columns + column;
          const image = key in tiles ? tile(k, key) : null;
          if (!image) continue;
          // whole pixels of the screen, so that neighbours meet
          const [x0, y0] = onScreen(column * side, row * side, ratio).map(Math.round);
          const right = Math.min(data.width, column * side + image.width * scale);
          const bottom = Math.min(data.height, row * side + image.height * scale);
          const [x1, y1] = onScreen(right, bottom, ratio).map(Math.round);
          const [wide, high] = [(right - column * side) / scale, (bottom - row * side) / scale];
          context.drawImage(image, 0, 0, wide, high, x0, y0, x1 - x0, y1 - y0);
        }
      }
    }
    for (const name of decoded.keys()) {
      if (decoded.size <= MOST_TILES) break;
      decoded.delete(name);
    }
  }

  // ---- boxes

  function onScreen(x, y, ratio) {
    return [
      ((x - view.x) * view.zoom + stage.clientWidth / 2) * ratio,
      ((y - view.y) * view.zoom + stage.clientHeight / 2) * ratio,
    ];
  }

  function outline(box, zoom, x, y) {
    const c = boxes.corners;
    const at = 8 * box;
    above.moveTo(c[at] * zoom + x, c[at + 1] * zoom + y);
    for (let k = 2; k < 8; k += 2) above.lineTo(c[at + k] * zoom + x, c[at + k + 1] * zoom + y);
    above.closePath();
  }

  const inSight = new Uint32Array(boxes.length);

  /** The shown boxes in sight: their numbers are the first of `inSight`; for each class, where its end is. */
  function look(edges) {
    const bounds = boxes.bounds;
    let count = 0;
    return classes.map((_, k) => {
      for (let i = boxes.starts[k], end = shown.on[k] ? boxes.end(k, shown.least) : i; i < end; i++) {
        const at = 4 * i;
        if (bounds[at] > edges.right || bounds[at + 2] < edges.left) continue;
        if (bounds[at + 1] > edges.bottom || bounds[at + 3] < edges.top) continue;
        inSight[count++] = i;
      }
      return count;
    });
  }

  function drawBoxes(edges, ratio) {
    above.clearRect(0, 0, overlay.width, overlay.height);
    const zoom = view.zoom * ratio;
    const place = onScreen(0, 0, ratio);
    const ends = look(edges);
    if (ends.length && ends[ends.length - 1] > FEW) drawMany(ends, zoom, place, ratio);
    else drawFew(ends, zoom, place, ratio);
    if (chosen < 0) return;
    above.beginPath();
    outline(chosen, zoom, ...place);
    above.fillStyle = "#ffffff40";
    above.fill();
    for (const [width, colour] of [[6, "#000"], [4, "#fff"], [1.6, classes[boxes.classOf(chosen)].colour]]) {
      above.lineWidth = width * ratio;
      above.strokeStyle = colour;
      above.stroke();
    }
  }

  function drawFew(ends, zoom, place, ratio) {
    above.lineJoin = "round";
    for (const [width, colour] of [[3.6, "#0009"], [1.8, null]]) {
      above.lineWidth = width * ratio;
      ends.forEach((end, k) => {
        above.strokeStyle = colour ?? classes[k].colour;
        for (let j = k ? ends[k - 1] : 0; j < end; j++) {
          above.beginPath(); // one path a box: a path of many takes ten times as long
          outline(inSight[j], zoom, ...place);
          above.stroke();
        }
      });
    }
  }

  let held = null; // pixels of the overlay

  function drawMany(ends, zoom, [x, y], ratio) {
    const { width, height } = overlay;
    if (!held || held.width !== width || held.height !== height) held = above.createImageData(width, height);
    const pixels = new Uint32Array(held.data.buffer).fill(0);
    const lines = new Lines(pixels, width, height);
    const side = Math.max(1, Math.round(1.6 * ratio));
    const bounds = boxes.bounds;
    ends.forEach((end, k) => {
      const pixel = Lines.pixel(classes[k].colour);
      for (let j = k ? ends[k - 1] : 0; j < end; j++) {
        const i = inSight[j];
        const at = 4 * i;
        if (boxes.sides[3 * i] * view.zoom < SMALLEST) {
          const middle = [(bounds[at] + bounds[at + 2]) / 2, (bounds[at + 1] + bounds[at + 3]) / 2];
          lines.dot(middle[0] * zoom + x, middle[1] * zoom + y, side, pixel);
        } else lines.outline(boxes.corners, i, zoom, x, y, pixel);
      }
    });
    above.putImageData(held, 0, 0);
  }

  // ---- the view

  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [stage.clientWidth, stage.clientHeight];
      if (!width || !height) return;
      const size = [Math.round(width * ratio), Math.round(height * ratio)];
      for (const layer of [canvas, overlay]) {
        if (layer.width === size[0] && layer.height === size[1]) continue;
        [layer.width, layer.height] = size;
        // one pixel of the canvas is one of the screen, also where the place for it has a fraction more
        [layer.style.width, layer.style.height] = size.map((side) => `${side / ratio}px`);
      }
      keepInside();
      const half = [width / 2 / view.zoom, height / 2 / view.zoom];
      const edges = { left: view.x - half[0], right: view.x + half[0], top: view.y - half[1], bottom: view.y + half[1] };
      context.fillStyle = "#808080";
      context.fillRect(0, 0, ...size);
      drawTiles(edges, ratio);
      drawBoxes(edges, ratio);
    });
  }

  function wholeZoom() {
    return Math.min(stage.clientWidth / data.width, stage.clientHeight / data.height);
  }

  function keepInside() {
    if (view.whole) [view.x, view.y, view.zoom] = [data.width / 2, data.height / 2, wholeZoom()];
    view.zoom = Math.min(Math.max(view.zoom, Math.min(1, wholeZoom()) / 2), Math.max(MOST_ZOOM, wholeZoom()));
    view.x = Math.min(Math.max(view.x, 0), data.width);
    view.y = Math.min(Math.max(view.y, 0), data.height);
  }

  /** Zoom, a point of the screen (from the canvas's middle) staying where it is. */
  function zoomBy(factor, x = 0, y = 0) {
    view.whole = false;
    const before = view.zoom;
    view.zoom *= factor;
    const [toX, toY] = [view.x + x / before, view.y + y / before];
    keepInside();
    view.x = toX - x / view.zoom;
    view.y = toY - y / view.zoom;
    draw();
  }

  function moveBy(x, y) {
    view.whole = false;
    view.x += x / view.zoom;
    view.y += y / view.zoom;
    draw();
  }

  function showWhole() {
    view.whole = true;
    draw();
  }

  // ---- what is shown, and what is chosen

  function refresh() {
    const counts = boxes.counts(shown.least);
    const total = counts.reduce((sum, count, k) => sum + (shown.on[k] ? count : 0), 0);
    byId("count").replaceChildren(element("b", number.format(total)), ` of ${number.format(boxes.length)} detections`);
    byId("value").textContent = shown.least.toFixed(2);
    rows.forEach(({ box, count }, k) => {
      box.checked = shown.on[k];
      count.textContent = `${number.format(counts[k])} / ${number.format(classes[k].count)}`;
    });
    if (chosen >= 0 && !boxes.isShown(chosen, shown)) choose(-1);
    draw();
  }

  function choose(box) {
    chosen = box;
    const list = byId("chosen");
    list.replaceChildren();
    if (box >= 0) {
      const [length, width, angle] = boxes.sides.subarray(3 * box, 3 * box + 3);
      const ground = boxes.metres ? boxes.metres.subarray(2 * box, 2 * box + 2) : [NaN, NaN];
      const corners = boxes.corners.subarray(8 * box, 8 * box + 8);
      const mean = (first) => (corners[first] + corners[first + 2] + corners[first + 4] + corners[first + 6]) / 4;
      const side = (pixels, metres) =>
        `${pixels.toFixed(1)} px` + (Number.isFinite(metres) ? ` · ${metres.toFixed(2)} m` : "");
      for (const [what, text] of [
        ["Class", classes[boxes.classOf(box)].name],
        ["Score", boxes.scores[box].toFixed(3)],
        ["Length", side(length, ground[0])],
        ["Width", side(width, ground[1])],
        ["Angle", `${angle.toFixed(1)}°`],
        ["Middle", `x ${mean(0).toFixed(1)}, y ${mean(1).toFixed(1)}`],
      ]) list.append(element("dt", what), element("dd", text));
    }
    draw();
  }

  /** Choose the next (1) or previous (-1) detection by score, and bring it into sight. */
  function step(by) {
    const box = boxes.beside(chosen, by, shown);
    if (box < 0) return;
    choose(box);
    const bounds = boxes.bounds.subarray(4 * box, 4 * box + 4);
    const fitting = Math.min(stage.clientWidth, stage.clientHeight) / (4 * Math.max(boxes.sides[3 * box], 1));
    view.zoom = Math.max(wholeZoom(), Math.min(view.whole ? 4 : Math.max(view.zoom, 1), fitting));
    [view.x, view.y, view.whole] = [(bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2, false];
    draw();
  }

  function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  // ---- the page round it

  byId("name").textContent = data.name;
  byId("size").textContent = `${number.format(data.width)} × ${number.format(data.height)} pixels`;
  for (const [what, beside] of [["Previous", data.beside[0]], ["Next", data.beside[1]]]) {
    if (!beside) continue;
    const link = element("a", `${what}: ${beside.name}`);
    link.href = beside.file;
    byId("beside").append(link);
  }
  const notes = [];
  const whole = levels.find(({ columns, rows, tiles }) => Object.keys(tiles).length === columns * rows).scale;
  if (whole > 1) notes.push(`The image is held at 1/${whole} of its size, and finer round the best detections.`);
  if (data.left_out) notes.push(`${number.format(data.left_out)} detections of lower scores are not on this page.`);
  byId("notes").textContent = notes.join(" ");

  const rows = classes.map((one, k) => {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox" });
    const mark = document.createElement("i");
    mark.style.backgroundColor = one.colour;
    const count = document.createElement("small");
    label.append(box, mark, element("span", one.name), count);
    byId("classes").append(label);
    box.addEventListener("change", () => {
      shown.on[k] = box.checked;
      refresh();
    });
    return { box, count };
  });
  for (const [id, value] of [["all", true], ["none", false]]) {
    byId(id).addEventListener("click", () => {
      shown.on.fill(value);
      refresh();
    });
  }

  const slider = byId("least");
  Object.assign(slider, { min: data.low, max: data.high, step: 0.01 });
  slider.value = boxes.counts(data.least).some((count) => count > 0) ? data.least : data.low;
  shown.least = Number(slider.value);
  slider.addEventListener("input", () => {
    shown.least = Number(slider.value);
    refresh();
  });

  byId("in").addEventListener("click", () => zoomBy(1.5));
  byId("out").addEventListener("click", () => zoomBy(1 / 1.5));
  byId("fit").addEventListener("click", showWhole);
  byId("next").addEventListener("click", () => step(1));
  byId("previous").addEventListener("click", () => step(-1));

  // ---- mouse, fingers, keys

  const pointers = new Map();
  let travelled = 0;

  function fromMiddle(event) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [event.clientX - left - width / 2, event.clientY - top - height / 2];
  }

  /** The middle of all fingers, and their mean distance from it. */
  function grip() {
    const places = [...pointers.values()];
    const [x, y] = [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
    return [x, y, places.reduce((sum, place) => sum + Math.hypot(place[0] - x, place[1] - y), 0) / places.length];
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!pointers.size) travelled = 0;
    pointers.set(event.pointerId, fromMiddle(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = grip();
    pointers.set(event.pointerId, fromMiddle(event));
    const after = grip();
    travelled += Math.hypot(after[0] - before[0], after[1] - before[1]) + Math.abs(after[2] - before[2]);
    if (travelled < 5) return; // a click of an unsteady hand
    moveBy(before[0] - after[0], before[1] - after[1]);
    if (before[2] > 0 && after[2] > 0) zoomBy(after[2] / before[2], after[0], after[1]);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (pointers.size === 1 && travelled < 5) {
      const [x, y] = fromMiddle(event);
      const reach = (event.pointerType === "touch" ? 16 : 6) / view.zoom;
      choose(boxes.at(view.x + x / view.zoom, view.y + y / view.zoom, reach, shown));
    }
    pointers.delete(event.pointerId);
  });
  canvas.addEventListener("pointercancel", (event) => {
    travelled = 5;
    pointers.delete(event.pointerId);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = [1, 16, 400][event.deltaMode];
    zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)), ...fromMiddle(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoomBy(2, ...fromMiddle(event)));

  const onImage = {
    ArrowLeft: () => moveBy(-80, 0),
    ArrowRight: () => moveBy(80, 0),
    ArrowUp: () => moveBy(0, -80),
    ArrowDown: () => moveBy(0, 80),
  };
  const anywhere = {
    "+": () => zoomBy(1.5),
    "=": () => zoomBy(1.5),
    "-": () => zoomBy(1 / 1.5),
    0: showWhole,
    n: () => step(1),
    p: () => step(-1),
    Escape: () => choose(-1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = (event.target === canvas && onImage[event.key]) || anywhere[event.key.length > 1 ? event.key : event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });

  new ResizeObserver(draw).observe(stage);
  choose(-1);
  refresh();
})();
