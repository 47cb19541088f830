// The shower in space: voxels as points, turned with the mouse, a finger or the keys.

import { brush } from "./colours.js";
import { extent } from "./layers.js";

const MOST = 8000;

/** A view of one canvas; `show` gives it a shower. */
export class Space {
  constructor(canvas) {
    this.canvas = canvas;
    this.yaw = -0.65;
    this.pitch = 0.32;
    this.zoom = 1;
    this.points = [];
    this.frame = [];
    this.waiting = false;
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.turn(event.movementX * 0.008, event.movementY * 0.008);
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.magnify(event.deltaY < 0 ? 1.1 : 1 / 1.1);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (turns[event.key]) this.turn(...turns[event.key]);
    else if (event.key === "+" || event.key === "=") this.magnify(1.15);
    else if (event.key === "-") this.magnify(1 / 1.15);
    else return;
    event.preventDefault();
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.min(1.5, Math.max(-1.5, this.pitch + pitch));
    this.draw();
  }

  magnify(factor) {
    this.zoom = Math.min(8, Math.max(0.4, this.zoom * factor));
    this.draw();
  }

  /** Show the hits of a shower (by layer) on a scale of energies. */
  show(geometry, layers, scale) {
    const depth = depths(geometry);
    const points = [];
    layers.forEach((one, number) => one.voxels.forEach((voxel, i) => {
      const [x, y] = place(geometry.layers[number], geometry.kind, voxel);
      points.push({ x, y, z: depth[number], energy: one.energies[i], level: scale.at(one.energies[i]) });
    }));
    points.sort((a, b) => b.energy - a.energy);
    const kept = points.slice(0, MOST);
    for (const point of kept) point.colour = scale.colour(point.energy);
    this.fit(geometry, kept, depth);
    this.draw();
  }

  /** Bring everything into a cube of side 2, the shower's axis from left to right. */
  fit(geometry, points, depth) {
    const reach = extent(geometry), box = Array.isArray(reach) ? reach : [-reach, reach, -reach, reach];
    const [x0, x1, y0, y1] = box, long = depth.at(-1) - depth[0] || 1;
    const half = Math.max(x1 - x0, y1 - y0, long) / 2;
    const cx = (x0 + x1) / 2, cy = (y0 + y1) / 2, cz = (depth.at(-1) + depth[0]) / 2;
    this.points = points.map((p) => ({ ...p, at: [(p.z - cz) / half, (p.y - cy) / half, (p.x - cx) / half] }));
    const w = (x1 - x0) / 2 / half, h = (y1 - y0) / 2 / half, l = long / 2 / half;
    const corners = [-1, 1].flatMap((a) => [-1, 1].flatMap((b) => [-1, 1].map((c) => [a * l, b * h, c * w])));
    this.frame = [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]]
      .map(([a, b]) => [corners[a], corners[b]]);
    this.beam = [[-l - 0.55, 0, 0], [-l - 0.05, 0, 0]];
  }

  /** Draw in the next frame, once. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const { context, width, height } = brush(this.canvas);
    const size = Math.min(width * 0.37, height * 0.39) * this.zoom;
    const cy = Math.cos(this.yaw), sy = Math.sin(this.yaw), cp = Math.cos(this.pitch), sp = Math.sin(this.pitch);
    const project = ([x, y, z]) => {
      const across = x * cy + z * sy, away = z * cy - x * sy;
      const up = y * cp - away * sp, far = y * sp + away * cp;
      const near = 4.5 / (4.5 + far);
      return [width / 2 + across * near * size, height * 0.55 - up * near * size, far, near];
    };
    this.lines(context, project);
    const seen = this.points.map((point) => ({ point, to: project(point.at) })).sort((a, b) => b.to[2] - a.to[2]);
    for (const { point, to } of seen) {
      const radius = (0.7 + 3.4 * point.level ** 1.5) * to[3] * Math.sqrt(this.zoom);
      context.globalAlpha = 0.35 + 0.6 * point.level;
      context.fillStyle = point.colour;
      context.beginPath();
      context.arc(to[0], to[1], radius, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  lines(context, project) {
    context.strokeStyle = "#3d5166";
    context.lineWidth = 1;
    for (const [a, b] of this.frame) line(context, project(a), project(b));
    if (!this.beam) return;
    const [from, to] = this.beam.map(project);
    context.strokeStyle = context.fillStyle = "#f5b335";
    context.lineWidth = 2;
    line(context, from, to);
    const angle = Math.atan2(to[1] - from[1], to[0] - from[0]);
    context.beginPath();
    context.moveTo(to[0], to[1]);
    for (const side of [-0.45, 0.45]) context.lineTo(to[0] - 10 * Math.cos(angle + side), to[1] - 10 * Math.sin(angle + side));
    context.fill();
  }
}

function line(context, a, b) {
  context.beginPath();
  context.moveTo(a[0], a[1]);
  context.lineTo(b[0], b[1]);
  context.stroke();
}

/** Depth of each layer [mm]; evenly spread over a plausible length where the readout does not tell. */
function depths(geometry) {
  const layers = geometry.layers;
  if (layers.every((layer) => layer.depth !== null)) return layers.map((layer) => layer.depth);
  const reach = extent(geometry), wide = Array.isArray(reach) ? reach[1] - reach[0] : 2 * reach;
  return layers.map((_, i) => (i * 1.4 * wide) / Math.max(1, layers.length - 1));
}

/** Middle of a voxel across the axis [mm]. */
function place(layer, kind, voxel) {
  const columns = layer.second.length - 1, a = Math.floor(voxel / columns), b = voxel % columns;
  const first = (layer.first[a] + layer.first[a + 1]) / 2, second = (layer.second[b] + layer.second[b + 1]) / 2;
  return kind === "cylindrical" ? [second * Math.cos(first), second * Math.sin(first)] : [first, second];
}
