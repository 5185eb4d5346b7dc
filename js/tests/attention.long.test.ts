// Long prompts in the page: pictures of the level that fits, exact numbers, and never more than is on screen.
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { colour, endAll, HEADS, LAYERS, model, pixel, show, styled } from "./attention.ts";
import { type Answered, coded, type Fake, jsonTile, type Key, tileOf } from "./fake.ts";

const T = 4096;
const SIDE = 256;

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

/** A prompt whose weights are made up as they are asked for: 1 on the diagonal band, a little on the first key. */
const weight = (query: number, key: number) =>
  key > query ? 0 : query - key < 512 ? 0.5 : key < 512 ? 0.125 : 0.03125;

function long(traits: object = {}): Fake {
  const fake = model([{ tokens: ["a"] }], { colour_range: [0, 0.5], ...traits }, false);
  const rows = 16;
  fake.state.prompts = [
    { name: "long", shape: [LAYERS, HEADS, T, T], causal: true, same: true, rows, columns: rows, chunk: 1024 },
  ];
  fake.tile = ({ what, ...key }: Key): Answered => {
    if (what === "tokens") {
      const text = Array.from({ length: 1024 }, (_, i) => `w${1024 * (key.chunk as number) + i}`);
      return jsonTile({ text, ids: null, special: [] });
    }
    if (what === "atlas") {
      const [side, step] = [64, T / 64];
      const one = Array.from({ length: side * side }, (_, i) => weight(Math.floor(i / side) * step, (i % side) * step));
      const plane = Array.from({ length: LAYERS * HEADS }, () => one).flat();
      return coded(plane, [LAYERS, HEADS, side, side], false, { step: [step, step] });
    }
    if (what === "image") {
      const [level, row, column] = [key.level, key.row, key.column] as [number, number, number];
      const step = 2 ** level;
      const size = (at: number) => Math.min(SIDE, Math.ceil(T / step) - at * SIDE);
      const [down, across] = [size(row), size(column)];
      const values: number[] = [];
      for (let i = 0; i < down; i++)
        for (let j = 0; j < across; j++) values.push(weight((row * SIDE + i) * step, (column * SIDE + j) * step));
      return coded(values, [down, across], false, { step: [step, step], ...(level > 2 && { sampled: [1, step] }) });
    }
    if (what === "rows") {
      const first = (key.band as number) * rows;
      const values = new Float32Array(rows * T).map((_, i) => weight(first + Math.floor(i / T), i % T));
      return tileOf(values, [rows, T]);
    }
    throw new Error(`no ${what} here`);
  };
  return fake;
}

/** How far a drawn colour is from that of a weight; codes are a few per cent off, which is a few shades. */
const off = (drawn: number[], share: number) =>
  Math.max(...colour("light", share).map((channel, c) => Math.abs(channel - drawn[c]!)));

const asked = (fake: Fake) => fake.asked.flat().map((key) => JSON.parse(key) as Key);

test("the whole prompt is drawn from a few pooled squares", async () => {
  const fake = long();
  const shown = await show(fake);
  for (const [q, k] of [
    [60, 58],
    [40, 4],
    [40, 20],
    [63, 1],
  ] as const)
    await expect
      .poll(() => off(pixel(shown.canvas(), q, k, 64), weight(q * 64, k * 64) / 0.5), { timeout: 5000 })
      .toBeLessThan(5);
  await expect.poll(() => pixel(shown.canvas(), 10, 50, 64)[3]).toBe(0);
  await expect.poll(() => asked(fake).filter(({ what }) => what === "image").length).toBeGreaterThan(0);
  const images = asked(fake).filter(({ what }) => what === "image");
  expect(new Set(images.map(({ level }) => level as number)).size).toBe(1);
  expect(images.length).toBeLessThanOrEqual(36);
  for (const { row, column } of images) expect(column).toBeLessThanOrEqual(row as number); // no future is asked for
  expect(shown.text(".iw-note")).toContain("of its 8 queries");
});

test("zoomed in, only what is on screen is asked for, weight by weight", async () => {
  const fake = long({ viewport: [2000, 2200, 1900, 2100] });
  const shown = await show(fake);
  await expect.poll(() => pixel(shown.canvas(), 190, 10, 200), { timeout: 5000 }).toEqual(colour("light", 1));
  const images = asked(fake).filter(({ what }) => what === "image");
  expect(images.map(({ level, row, column }) => [level, row, column])).toEqual([
    [0, 7, 7],
    [0, 8, 7],
    [0, 8, 8],
  ]);
});

test("the number under the pointer is the exact one, of a band of rows", async () => {
  const fake = long({ query: 3000, key: 2700 });
  const shown = await show(fake);
  await expect
    .poll(() => shown.text(".iw-status"), { timeout: 5000 })
    .toContain("query w30003000 → key w27002700: 0.5000");
  expect(asked(fake)).toContainEqual(expect.objectContaining({ what: "rows", band: Math.floor(3000 / 16) }));
  expect(shown.all(".iw-tokens span").length).toBeLessThanOrEqual(256);
});

test("where a saved copy has only the picture, a number says that it is read off", async () => {
  const fake = long({ viewport: [2000, 2100, 2000, 2100], query: 2060, key: 2050 });
  const full = fake.tile;
  fake.tile = (key) => {
    if (key.what === "rows") throw new Error("not stored in this page");
    return full(key);
  };
  const shown = await show(fake);
  await expect.poll(() => shown.text(".iw-status"), { timeout: 5000 }).toMatch(/≈ 0\.(4[89]|5[01])\d+ ± [1-5] %/);
  await userEvent.hover(shown.canvas(), { position: { x: 5, y: 5 } });
  await expect.poll(() => shown.text(".iw-status")).toMatch(/≈|masked/);
});

test("a copy without the level that fits shows a finer one, and else says so", async () => {
  const fake = long();
  const full = fake.tile;
  let finest = 2;
  fake.tile = (key) => {
    if (key.what === "image" && key.level !== finest) throw new Error("not stored in this page");
    return full(key);
  };
  const shown = await show(fake);
  await expect.poll(() => off(pixel(shown.canvas(), 40, 4, 64), 0.25), { timeout: 5000 }).toBeLessThan(5);
  await expect.poll(() => asked(fake).some(({ level }) => level === 2)).toBe(true);
  finest = -1;
  fake.change("head", 1);
  await expect
    .poll(() => shown.text("[role=alert]"), { timeout: 5000 })
    .toBe("This copy holds no finer picture of this head.");
  // The thumbnail stands in.
  await expect.poll(() => off(pixel(shown.canvas(), 40, 4, 64), 0.25)).toBeLessThan(5);
});
