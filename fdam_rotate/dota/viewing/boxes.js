"use strict";

/**
 * The detections of an image, as boxes.py wrote them: class by class, within a class by falling score. What is shown
 * of them is told by `{least: score, on: [whether each class is shown]}`.
 */
class Boxes {
  constructor({ classes, scores, corners, sides, metres }) {
    this.classes = classes;
    this.starts = [0];
    for (const { count } of classes) this.starts.push(this.starts[this.starts.length - 1] + count);
    this.length = this.starts[classes.length];
    this.scores = new Float64Array(Boxes.bytes(scores));
    this.corners = new Float32Array(Boxes.bytes(corners));
    this.sides = new Float32Array(Boxes.bytes(sides));
    this.metres = metres === null ? null : new Float32Array(Boxes.bytes(metres));
    // upright bounds: left, top, right, bottom
    this.bounds = new Float32Array(4 * this.length);
    for (let i = 0; i < this.length; i++) {
      for (let axis = 0; axis < 2; axis++) {
        const [at, c] = [8 * i + axis, this.corners];
        this.bounds[4 * i + axis] = Math.min(c[at], c[at + 2], c[at + 4], c[at + 6]);
        this.bounds[4 * i + 2 + axis] = Math.max(c[at], c[at + 2], c[at + 4], c[at + 6]);
      }
    }
    // box numbers by falling score, of all classes together
    this.ranked = Uint32Array.from(this.scores.keys()).sort((a, b) => this.scores[b] - this.scores[a] || a - b);
    this.rank = new Uint32Array(this.length);
    this.ranked.forEach((box, place) => (this.rank[box] = place));
  }

  static bytes(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes.buffer;
  }

  /** The end of the boxes of class `k` whose score is at least `least`; they begin at `starts[k]`. */
  end(k, least) {
    let low = this.starts[k];
    let high = this.starts[k + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.scores[middle] >= least) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** How many boxes of each class score at least `least`. */
  counts(least) {
    return this.classes.map((_, k) => this.end(k, least) - this.starts[k]);
  }

  classOf(box) {
    return this.starts.findLastIndex((start) => start <= box);
  }

  isShown(box, shown) {
    return shown.on[this.classOf(box)] && this.scores[box] >= shown.least;
  }

  holds(box, x, y) {
    let inside = false;
    for (let k = 0, before = 3; k < 4; before = k++) {
      const [ax, ay] = [this.corners[8 * box + 2 * k], this.corners[8 * box + 2 * k + 1]];
      const [bx, by] = [this.corners[8 * box + 2 * before], this.corners[8 * box + 2 * before + 1]];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside;
  }

  /** The smallest shown box around a point of the image, else the one whose middle is nearest within `reach`, or -1. */
  at(x, y, reach, shown) {
    let found = -1;
    let least = Infinity;
    let near = -1;
    let distance = reach;
    for (let k = 0; k < this.classes.length; k++) {
      if (!shown.on[k]) continue;
      for (let i = this.starts[k], end = this.end(k, shown.least); i < end; i++) {
        const left = this.bounds[4 * i];
        const right = this.bounds[4 * i + 2];
        if (x < left - reach || x > right + reach) continue;
        const top = this.bounds[4 * i + 1];
        const bottom = this.bounds[4 * i + 3];
        if (y < top - reach || y > bottom + reach) continue;
        const area = this.sides[3 * i] * this.sides[3 * i + 1];
        if (area < least && this.holds(i, x, y)) [found, least] = [i, area];
        const away = Math.hypot(x - (left + right) / 2, y - (top + bottom) / 2);
        if (away < distance) [near, distance] = [i, away];
      }
    }
    return found >= 0 ? found : near;
  }

  /** The shown box after `box` by falling score (`step` 1), or before it (-1); of -1 the first or last; -1 if none. */
  beside(box, step, shown) {
    let place = box < 0 ? (step > 0 ? 0 : this.length - 1) : this.rank[box] + step;
    while (place >= 0 && place < this.length && !this.isShown(this.ranked[place], shown)) place += step;
    return place >= 0 && place < this.length ? this.ranked[place] : -1;
  }
}
