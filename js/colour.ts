// From a weight to a colour: a scale (linear, sqrt or log over a range), then one of the shared palettes.
import palette from "../interpwidgets/static/palette.json";
import type { Tile } from "./tiles.ts";

export type ScaleKind = "linear" | "sqrt" | "log";

export interface Scale {
  kind: ScaleKind;
  low: number;
  high: number;
  floor: number; // where a log scale ends: below it a weight looks like none
  signed: boolean;
  dark: boolean;
}

/** Where a weight falls on the scale: 0 to 1, or −1 to 1 if signed. Outside the range it is clipped. */
export function place({ kind, low, high, floor, signed }: Scale, value: number): number {
  const magnitude = signed ? Math.abs(value) : value;
  const from = signed ? 0 : low;
  let at = (magnitude - from) / (high - from);
  if (kind === "sqrt") at = Math.sqrt(Math.max(0, at));
  else if (kind === "log") {
    const bottom = Math.max(from, floor);
    at = magnitude > bottom ? Math.log(magnitude / bottom) / Math.log(high / bottom) : 0;
  }
  at = Math.min(1, Math.max(0, at));
  return signed && value < 0 ? -at : at;
}

/** The weight at a place on the scale: the inverse of `place`, for ticks. */
export function weightAt({ kind, low, high, floor, signed }: Scale, at: number): number {
  const from = signed ? 0 : low;
  const t = Math.abs(at);
  const bottom = Math.max(from, floor);
  if (kind === "log") return t === 0 ? from : Math.sign(at) * bottom * (high / bottom) ** t;
  return Math.sign(at) * (from + (high - from) * (kind === "sqrt" ? t * t : t)) || from;
}

const luts = new Map<string, Uint8ClampedArray>();

/** 256 colours, four bytes each. */
export function lut({ signed, dark }: Pick<Scale, "signed" | "dark">): Uint8ClampedArray {
  const name: keyof typeof palette = `${signed ? "diverging-" : ""}${dark ? "dark" : "light"}`;
  let found = luts.get(name);
  if (!found) {
    found = new Uint8ClampedArray(1024).fill(255);
    const stops = palette[name].map((stop) => parseInt(stop.slice(1), 16));
    for (let i = 0; i < 256; i++) {
      const at = (i / 255) * (stops.length - 1);
      const stop = Math.min(stops.length - 2, Math.floor(at));
      for (let c = 0; c < 3; c++) {
        const shift = 16 - 8 * c;
        const [a, b] = [(stops[stop]! >> shift) & 255, (stops[stop + 1]! >> shift) & 255];
        found[4 * i + c] = Math.round(a + (b - a) * (at - stop));
      }
    }
    luts.set(name, found);
  }
  return found;
}

const index = (scale: Scale, value: number) =>
  Math.round((scale.signed ? (place(scale, value) + 1) / 2 : place(scale, value)) * 255);

/** A weight's colour for CSS, and black or white text to read on it. */
export function css(scale: Scale, value: number): { background: string; color: string } {
  const at = 4 * index(scale, value);
  const [r, g, b] = lut(scale).subarray(at, at + 3) as unknown as [number, number, number];
  const luminance = 0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2;
  return { background: `rgb(${r},${g},${b})`, color: luminance > 0.18 ? "#000" : "#fff" }; // the larger contrast
}

/** The weight a code stands for (interpwidgets/views/pyramid.py). */
export function decode({ data, high, octaves }: Tile, code: number): number {
  const top = data instanceof Int8Array ? 127 : 255;
  if (code === 0) return 0;
  return code === -128 ? NaN : Math.sign(code) * high * 2 ** (octaves * ((Math.abs(code) - 1) / (top - 1) - 1));
}

/** The relative error of a coded weight, at most; 0 if weights are exact. */
export function bound({ data, octaves }: Tile): number {
  return data instanceof Float32Array ? 0 : 2 ** (octaves / (2 * (data instanceof Int8Array ? 126 : 254))) - 1;
}

/** From a weight to a pixel, four bytes as one number. A missing weight has no colour. */
export function painter(scale: Scale): (weight: number) => number {
  const colours = new Uint32Array(lut(scale).buffer);
  return (weight) => (Number.isNaN(weight) ? 0 : colours[index(scale, weight)]!);
}

/** The pixel of every code of a tile, from −128 on. */
export function inks(scale: Scale, tile: Tile): Uint32Array {
  const paint = painter(scale);
  return Uint32Array.from({ length: 384 }, (_, i) => paint(decode(tile, i - 128)));
}

/** A whole number with its thousands apart. (The browser's own way loads tables that cost more than the view.) */
export const count = (n: number) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

export function format(value: number): string {
  if (Number.isNaN(value)) return "no counterpart";
  const size = Math.abs(value);
  if (size === 0) return "0";
  return (size >= 0.001 ? value.toFixed(4) : value.toExponential(2)).replaceAll("-", "−");
}
