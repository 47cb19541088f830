// One layer as an image: sectors of rings for cylindrical readouts, rectangles for Cartesian ones.

import { brush } from "./colours.js";

const PAPER = "#eef1f4", EDGE = "#c3ccd5", MANY = 50;

/** The hits of a shower by layer: [{voxels, energies, sum}], voxel numbers within the layer. */
export function byLayer(shower, geometry) {
  const found = geometry.layers.map(() => ({ voxels: [], energies: [], sum: 0 }));
  let layer = 0, start = 0, size = sizeOf(geometry.layers[0]);
  shower.voxel.forEach((voxel, i) => {
    while (voxel >= start + size && layer + 1 < geometry.layers.length) {
      start += size;
      layer += 1;
      size = sizeOf(geometry.layers[layer]);
    }
    found[layer].voxels.push(voxel - start);
    found[layer].energies.push(shower.energy[i]);
    found[layer].sum += shower.energy[i];
  });
  return found;
}

function sizeOf(layer) {
  return (layer.first.length - 1) * (layer.second.length - 1);
}

/** Largest distance from the axis (cylindrical), or the box [x0, x1, y0, y1], over all layers. */
export function extent(geometry) {
  const layers = geometry.layers;
  if (geometry.kind === "cylindrical") return Math.max(...layers.map((one) => one.second.at(-1)));
  return [
    Math.min(...layers.map((one) => one.first[0])), Math.max(...layers.map((one) => one.first.at(-1))),
    Math.min(...layers.map((one) => one.second[0])), Math.max(...layers.map((one) => one.second.at(-1))),
  ];
}

/** Draw one layer; `fine` adds the borders of the readout. */
export function drawLayer(canvas, geometry, number, hits, scale, fine = false) {
  const { context, width, height } = brush(canvas);
  const layer = geometry.layers[number];
  const paint = geometry.kind === "cylindrical" ? rings : grid;
  paint(context, Math.min(width, height), layer, extent(geometry), hits, scale, fine);
}

function rings(context, size, layer, reach, hits, scale, fine) {
  const middle = size / 2, unit = (middle - 1) / reach, columns = layer.second.length - 1;
  disc(context, middle, layer.second[0] * unit, layer.second.at(-1) * unit);
  hits.voxels.forEach((voxel, i) => {
    const a = Math.floor(voxel / columns), r = voxel % columns;
    const from = -layer.first[a], to = -layer.first[a + 1]; // canvas angles run the other way round
    context.beginPath();
    context.arc(middle, middle, layer.second[r + 1] * unit, from, to, true);
    context.arc(middle, middle, layer.second[r] * unit, to, from, false);
    context.closePath();
    context.fillStyle = scale.colour(hits.energies[i]);
    context.fill();
  });
  if (fine) {
    context.strokeStyle = EDGE;
    context.lineWidth = 0.5;
    for (const r of layer.second.slice(0, -1)) circle(context, middle, r * unit);
    for (const a of layer.first) {
      const [c, s] = [Math.cos(a), Math.sin(a)], [low, high] = [layer.second[0] * unit, layer.second.at(-1) * unit];
      segment(context, middle + c * low, middle - s * low, middle + c * high, middle - s * high);
    }
  }
  context.strokeStyle = EDGE;
  context.lineWidth = 1;
  circle(context, middle, layer.second.at(-1) * unit);
}

function disc(context, middle, inner, outer) {
  context.beginPath();
  context.arc(middle, middle, outer, 0, 2 * Math.PI);
  context.arc(middle, middle, inner, 0, 2 * Math.PI, true);
  context.fillStyle = PAPER;
  context.fill();
}

function circle(context, middle, radius) {
  context.beginPath();
  context.arc(middle, middle, radius, 0, 2 * Math.PI);
  context.stroke();
}

function segment(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function grid(context, size, layer, box, hits, scale, fine) {
  const [x0, x1, y0, y1] = box, unit = (size - 2) / Math.max(x1 - x0, y1 - y0), columns = layer.second.length - 1;
  const x = (value) => 1 + (value - x0) * unit, y = (value) => 1 + (y1 - value) * unit;
  const { first, second } = layer;
  context.fillStyle = PAPER;
  context.fillRect(x(first[0]), y(second.at(-1)), (first.at(-1) - first[0]) * unit, (second.at(-1) - second[0]) * unit);
  hits.voxels.forEach((voxel, i) => {
    const a = Math.floor(voxel / columns), b = voxel % columns;
    context.fillStyle = scale.colour(hits.energies[i]);
    context.fillRect(x(first[a]), y(second[b + 1]), (first[a + 1] - first[a]) * unit + 0.3, (second[b + 1] - second[b]) * unit + 0.3);
  });
  context.strokeStyle = EDGE;
  if (fine && Math.max(first.length, second.length) < MANY) {
    context.lineWidth = 0.35;
    for (const edge of first) segment(context, x(edge), y(second[0]), x(edge), y(second.at(-1)));
    for (const edge of second) segment(context, x(first[0]), y(edge), x(first.at(-1)), y(edge));
  }
  context.lineWidth = 1;
  context.strokeRect(x(first[0]), y(second.at(-1)), (first.at(-1) - first[0]) * unit, (second.at(-1) - second[0]) * unit);
}
