// Colours of energies: a ramp from dark violet to yellow whose brightness rises evenly, so that it can be read in grey.

const STOPS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];

/** CSS colour of a position from 0 to 1 on the ramp. */
export function colourAt(position) {
  const place = Math.min(1, Math.max(0, position)) * (STOPS.length - 1);
  const low = Math.min(STOPS.length - 2, Math.floor(place));
  const share = place - low;
  const mixed = STOPS[low].map((value, i) => Math.round(value + share * (STOPS[low + 1][i] - value)));
  return `rgb(${mixed.join(" ")})`;
}

/** A logarithmic scale from the energies of a shower [MeV]: at most five decades below the highest. */
export class Scale {
  constructor(energies) {
    let high = 0, low = Infinity;
    for (const energy of energies) {
      if (energy > high) high = energy;
      if (energy > 0 && energy < low) low = energy;
    }
    this.high = high || 1;
    this.low = Math.max(Math.min(low, this.high / 10), this.high / 1e5);
    this.span = Math.log(this.high / this.low);
  }

  /** Position of an energy from 0 to 1. */
  at(energy) {
    return energy <= this.low ? 0 : Math.min(1, Math.log(energy / this.low) / this.span);
  }

  colour(energy) {
    return colourAt(this.at(energy));
  }
}

/** An energy [MeV] for people. */
export function spelled(energy) {
  if (energy >= 1e6) return `${digits(energy / 1e6)} TeV`;
  if (energy >= 1e3) return `${digits(energy / 1e3)} GeV`;
  if (energy >= 1 || energy === 0) return `${digits(energy)} MeV`;
  return `${digits(energy * 1e3)} keV`;
}

export function digits(value) {
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
}

/** A 2-D context in CSS pixels, sharp on every screen, wiped. */
export function brush(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
