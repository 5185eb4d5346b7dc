// From weights to colours: the scale, its inverse, the codes, and the palettes.
import { describe, expect, test } from "vitest";
import palette from "../../interpwidgets/static/palette.json";
import { bound, count, css, decode, format, lut, inks, painter, place, type Scale, weightAt } from "../colour.ts";
import type { Tile } from "../tiles.ts";

const scales: Scale[] = (["linear", "sqrt", "log"] as const).flatMap((kind) =>
  [false, true].flatMap((signed) =>
    [
      [0, 1],
      [0.1, 0.7],
    ].map(([low, high]) => ({ kind, low: low!, high: high!, floor: 1 / 512, signed, dark: false })),
  ),
);
const named = scales.map(
  (scale) => [`${scale.kind} ${scale.low}–${scale.high}${scale.signed ? " signed" : ""}`, scale] as const,
);

describe.each(named)("%s", (_, scale) => {
  test("a tick is where its weight is", () => {
    for (let i = 1; i <= 100; i++) {
      const at = (i / 100) * (scale.signed && i % 2 ? -1 : 1);
      expect(place(scale, weightAt(scale, at))).toBeCloseTo(at, 6);
    }
    expect(place(scale, weightAt(scale, 0))).toBe(0);
  });

  test("more weight is never less colour, and the range is clipped", () => {
    let before = scale.signed ? -1 : 0;
    for (let i = scale.signed ? -150 : 0; i <= 150; i++) {
      const at = place(scale, i / 100);
      expect(at).toBeGreaterThanOrEqual(before);
      before = at;
    }
    expect(place(scale, scale.high)).toBeCloseTo(1, 9);
    expect(place(scale, 99)).toBe(1);
    if (!scale.signed) expect(place(scale, scale.low)).toBe(0);
    expect(place(scale, 0)).toBe(0);
  });

  test("the formula is the one of views/palette.py", () => {
    const start = scale.signed ? 0 : scale.low;
    for (const weight of [0.001, 0.02, 0.1, 0.3, 0.69, 1, 1.5]) {
      const share = Math.min(1, Math.max(0, (weight - start) / (scale.high - start)));
      const floor = Math.max(start, scale.floor);
      const octaves = Math.log(Math.max(weight, floor) / floor) / Math.log(scale.high / floor);
      const expected = { linear: share, sqrt: share ** 0.5, log: Math.min(1, octaves) }[scale.kind];
      expect(place(scale, weight)).toBeCloseTo(expected, 9);
      if (scale.signed) expect(place(scale, -weight)).toBeCloseTo(-expected, 9);
    }
  });
});

test.each(["light", "dark", "diverging-light", "diverging-dark"] as const)(
  "%s: from its first stop to its last",
  (name) => {
    const table = lut({ signed: name.startsWith("diverging"), dark: name.endsWith("dark") });
    const hex = (i: number) => "#" + [0, 1, 2].map((c) => table[4 * i + c]!.toString(16).padStart(2, "0")).join("");
    expect(table.length).toBe(1024);
    expect(hex(0)).toBe(palette[name][0]);
    expect(hex(255)).toBe(palette[name].at(-1));
    for (let i = 0; i < 256; i++) expect(table[4 * i + 3]).toBe(255);
  },
);

const tile = (data: Tile["data"], octaves = 20): Tile => ({
  shape: [data.length],
  data,
  high: 0.4,
  octaves,
  step: [1, 1],
});

test("codes stand for the weights that views/pyramid.py says they do", () => {
  const bytes = tile(new Uint8Array(256));
  const signed = tile(new Int8Array(256), 16);
  expect(decode(bytes, 0)).toBe(0);
  expect(decode(bytes, 255)).toBeCloseTo(0.4, 12);
  expect(decode(bytes, 1)).toBeCloseTo(0.4 * 2 ** -20, 15);
  expect(decode(bytes, 128)).toBeCloseTo(0.4 * 2 ** -10, 12);
  expect(decode(signed, 127)).toBeCloseTo(0.4, 12);
  expect(decode(signed, -127)).toBeCloseTo(-0.4, 12);
  expect(decode(signed, -1)).toBeCloseTo(-0.4 * 2 ** -16, 15);
  expect(decode(signed, -128)).toBeNaN();
  for (let code = 1; code < 255; code++)
    expect(decode(bytes, code + 1) / decode(bytes, code)).toBeLessThanOrEqual((1 + bound(bytes)) ** 2 * (1 + 1e-12));
  expect(bound(tile(new Uint8Array(1), 24))).toBeLessThan(0.034);
  expect(bound(signed)).toBeLessThan(0.046);
  expect(bound(tile(new Float32Array(1)))).toBe(0);
});

test("a code and its weight are painted alike, and a missing weight not at all", () => {
  const scale: Scale = { kind: "linear", low: 0, high: 0.4, floor: 0.01, signed: true, dark: true };
  const coded = tile(new Int8Array(256), 16);
  const ink = inks(scale, coded);
  for (const code of [-127, -100, -1, 0, 1, 64, 127]) {
    const one = ink[code + 128]!;
    expect(one).toBe(painter(scale)(decode(coded, code)));
    expect(new Uint8Array(Uint32Array.of(one).buffer)[3]).toBe(255);
  }
  expect(ink[0]).toBe(0);
  expect(painter(scale)(NaN)).toBe(0);
});

test.each(scales.flatMap((scale) => [scale, { ...scale, dark: true }]))(
  "text on $kind, dark $dark, can be read",
  (scale) => {
    const luminance = (colour: string) => {
      const channels =
        colour === "#000" ? [0, 0, 0] : colour === "#fff" ? [255, 255, 255] : colour.match(/\d+/g)!.map(Number);
      const linear = channels.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
    };
    for (let i = -100; i <= 100; i++) {
      const { background, color } = css(scale, i / 100);
      const [light, dark] = [luminance(background), luminance(color)].sort((a, b) => b - a) as [number, number];
      expect((light + 0.05) / (dark + 0.05), background).toBeGreaterThan(4.5);
    }
  },
);

test.each([
  [0.25, "0.2500"],
  [1, "1.0000"],
  [0, "0"],
  [-0.5, "−0.5000"],
  [0.00012345, "1.23e−4"],
  [-0.00012345, "−1.23e−4"],
  [NaN, "no counterpart"],
])("%d is written %s", (weight, text) => {
  expect(format(weight)).toBe(text);
});

test.each([
  [0, "0"],
  [999, "999"],
  [1024, "1,024"],
  [65_536, "65,536"],
  [1_000_000, "1,000,000"],
])("%d is counted %s", (n, text) => {
  expect(count(n)).toBe(text);
});
