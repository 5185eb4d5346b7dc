// From a value to a place on an axis: linear or log, with ticks that are round numbers.
import palette from "../../interpwidgets/static/palette.json";
import { count } from "../colour.ts";

export interface Axis {
  name: string; // with its unit
  low: number;
  high: number;
  kind?: "linear" | "log";
  first?: number; // on a log scale that has a zero, the smallest value above it
  ticks?: [value: number, text: string][]; // instead of round numbers
}

export interface Placed {
  at(value: number): number; // pixels
  back(pixel: number): number; // the value there
  ticks: [value: number, text: string][];
}

const ZERO = 0.08; // of a log axis, between its zero and its first value

/** An axis laid from one pixel to another, with about so many ticks. */
export function placed(axis: Axis, from: number, to: number, about = 6): Placed {
  const { low, high, kind = "linear", first } = axis;
  const length = to - from;
  if (kind === "linear") {
    const span = high - low || 1;
    const at = (value: number) => from + ((value - low) / span) * length;
    const back = (pixel: number) => low + ((pixel - from) / length) * span;
    return { at, back, ticks: axis.ticks ?? ticks(low, high, about) };
  }
  const zero = low <= 0 && first !== undefined;
  const bottom = zero ? first : low;
  const start = zero ? from + ZERO * length : from; // of the logarithms
  const ratio = Math.log(high / bottom) || 1;
  const at = (value: number) =>
    value >= bottom
      ? start + (Math.log(value / bottom) / ratio) * (to - start)
      : zero && value >= 0
        ? from + (value / bottom) * (start - from)
        : NaN;
  const back = (pixel: number) => {
    const share = (pixel - start) / (to - start);
    return share >= 0 ? bottom * Math.exp(share * ratio) : zero ? (bottom * (pixel - from)) / (start - from) : bottom;
  };
  const own = logTicks(bottom, high, about).filter(([value]) => !zero || Math.abs(at(value) - from) > 0.06 * Math.abs(length)); // prettier-ignore
  return { at, back, ticks: axis.ticks ?? (zero ? [[0, "0"] as [number, string], ...own] : own) };
}

/** Round numbers from low to high: multiples of 1, 2 or 5 times a power of ten. */
export function ticks(low: number, high: number, about = 6): [number, string][] {
  if (!(high > low)) return [[low, text(low, 0)]];
  const raw = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((multiple) => multiple * power >= raw) ?? 10);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found: [number, string][] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push([i * step, text(i * step, digits)]); // prettier-ignore
  return found;
}

function logTicks(low: number, high: number, about: number): [number, string][] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const powers = Math.log10(high / low);
  const multiples = powers > about / 2 ? [1] : powers > about / 4 ? [1, 3] : powers > 0.8 ? [1, 2, 5] : [];
  if (!multiples.length) return ticks(low, high, about).filter(([value]) => value > 0);
  const every = Math.max(1, Math.ceil(powers / about));
  const found: [number, string][] = [];
  for (let power = first; power <= last; power++)
    for (const multiple of multiples) {
      const value = multiple * 10 ** power;
      if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9) && power % every === 0) found.push([value, text(value, Math.max(0, -power))]); // prettier-ignore
    }
  return found;
}

function text(value: number, digits: number): string {
  if (Math.abs(value) >= 1e6 || digits > 5) return value.toExponential(0).replace("+", "").replaceAll("-", "−");
  const [whole, rest] = Math.abs(value).toFixed(digits).split(".");
  const sign = value < 0 && Number(value.toFixed(digits)) !== 0 ? "−" : "";
  return `${sign}${count(Number(whole))}${rest ? `.${rest}` : ""}`;
}

/** The smallest and largest of the numbers, with a little air; 0 among them where `zero`. */
export function extent(lists: ArrayLike<number>[], zero = false, air = 0.05): [number, number] {
  let [low, high] = zero ? [0, 0] : [Infinity, -Infinity];
  for (const list of lists)
    for (let i = 0; i < list.length; i++) {
      const value = list[i]!;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  if (!(low <= high)) return [0, 1];
  const more = low === high ? Math.abs(low) * air || 1 : (high - low) * air;
  return [zero && low === 0 ? 0 : low - more, zero && high === 0 ? 0 : high + more];
}

/** Colours that are told apart, also by colour-blind readers, and a dash for each. */
export const series = (i: number, dark: boolean) => {
  const colours = palette[dark ? "series-dark" : "series-light"];
  return colours[i % colours.length]!;
};
export const dash = (i: number) => ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 2"][i % 6]!;
