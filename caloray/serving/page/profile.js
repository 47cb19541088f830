// The longitudinal profile: energy in each layer as bars.

import { brush, spelled } from "./colours.js";

const LEFT = 62, RIGHT = 8, TOP = 12, BOTTOM = 38;

/** Draw it; returns a function from a position [CSS px] to the layer there. */
export function drawProfile(canvas, layers, chosen) {
  const { context, width, height } = brush(canvas);
  const count = layers.length, wide = (width - LEFT - RIGHT) / count, tall = height - TOP - BOTTOM;
  const top = niceTop(Math.max(...layers.map((one) => one.sum), 1e-9));
  context.font = "12px system-ui, sans-serif";
  axes(context, width, height, tall, top);
  layers.forEach((one, i) => {
    const bar = (one.sum / top) * tall;
    context.fillStyle = i === chosen ? "#d97706" : "#2b6a96";
    context.fillRect(LEFT + i * wide + Math.min(1, wide * 0.1), TOP + tall - bar, Math.max(1, wide - Math.min(2, wide * 0.2)), bar);
  });
  numbers(context, count, wide, height);
  return (x) => Math.min(count - 1, Math.max(0, Math.floor((x - LEFT) / wide)));
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((n) => n * power).find((n) => n >= value);
}

function axes(context, width, height, tall, top) {
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let i = 0; i <= 4; i += 1) {
    const y = TOP + tall * (1 - i / 4);
    context.fillStyle = i ? "#e3e8ed" : "#566373";
    context.fillRect(LEFT, Math.round(y), width - LEFT - RIGHT, 1);
    context.fillStyle = "#3b4754";
    context.fillText(spelled((top * i) / 4), LEFT - 6, y);
  }
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText("layer", LEFT + (width - LEFT - RIGHT) / 2, height - 2);
}

function numbers(context, count, wide, height) {
  const step = Math.max(1, Math.ceil(count / Math.max(1, Math.floor((wide * count) / 34))));
  context.fillStyle = "#3b4754";
  context.textAlign = "center";
  context.textBaseline = "top";
  for (let i = 0; i < count; i += step) context.fillText(String(i), LEFT + (i + 0.5) * wide, height - BOTTOM + 5);
}
