"use strict";

/**
 * Outlines drawn straight into pixels, without smoothing: tens of thousands of boxes, of which a canvas's own paths would
 * take half a second, take some hundredths. `pixels` is a Uint32Array of `width` x `height`, as ImageData holds it.
 */
class Lines {
  constructor(pixels, width, height) {
    Object.assign(this, { pixels, width, height });
  }

  /** "#rrggbb" as a pixel of ImageData on a little-endian machine. */
  static pixel(colour) {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }

  /** A square of `side` pixels round (x, y). */
  dot(x, y, side, pixel) {
    const left = Math.round(x - side / 2);
    const top = Math.round(y - side / 2);
    for (let row = Math.max(0, top); row < Math.min(top + side, this.height); row++) {
      for (let column = Math.max(0, left); column < Math.min(left + side, this.width); column++) {
        this.pixels[row * this.width + column] = pixel;
      }
    }
  }

  /** A line from (ax, ay) to (bx, by), one pixel wide. */
  line(ax, ay, bx, by, pixel) {
    // the part within the picture: Liang and Barsky, ACM Transactions on Graphics 3 (1), 1984
    let from = 0;
    let to = 1;
    const [dx, dy] = [bx - ax, by - ay];
    for (let side = 0; side < 4; side++) {
      const step = side === 0 ? -dx : side === 1 ? dx : side === 2 ? -dy : dy;
      const room = side === 0 ? ax : side === 1 ? this.width - 1 - ax : side === 2 ? ay : this.height - 1 - ay;
      if (step === 0) {
        if (room < 0) return;
      } else if (step < 0) from = Math.max(from, room / step);
      else to = Math.min(to, room / step);
    }
    if (from > to) return;
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(dx), Math.abs(dy)) * (to - from)));
    let x = ax + from * dx + 0.5;
    let y = ay + from * dy + 0.5;
    const across = (dx * (to - from)) / steps;
    const down = (dy * (to - from)) / steps;
    for (let k = 0; k <= steps; k++, x += across, y += down) {
      this.pixels[(y | 0) * this.width + (x | 0)] = pixel;
    }
  }

  /** The four sides of box `i` of `corners`, scaled by `zoom` and moved by (x, y). */
  outline(corners, i, zoom, x, y, pixel) {
    const at = 8 * i;
    let ax = corners[at + 6] * zoom + x;
    let ay = corners[at + 7] * zoom + y;
    for (let k = 0; k < 8; k += 2) {
      const bx = corners[at + k] * zoom + x;
      const by = corners[at + k + 1] * zoom + y;
      this.line(ax, ay, bx, by, pixel);
      ax = bx;
      ay = by;
    }
  }
}
