// Vectors in a plane, in space and as cosines: points where they belong, and numbers of all dimensions beside.
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { page, userEvent } from "vitest/browser";
import { viewer } from "../parts/cloud.tsx";
import { pointAt } from "../parts/plot.tsx";
import geometry from "../views/geometry.tsx";
import { colour, styled } from "./attention.ts";
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";

const LABELS = ["east", "<img src=x onerror=window.hacked=1>", "</script>", "south"];
const CROSS = [[1, 0], [0, 1], [-1, 0], [0, -1]]; // prettier-ignore
const ends: (() => void)[] = [];

beforeAll(styled);
beforeEach(() => page.viewport(1200, 900));
afterEach(() => {
  for (const end of ends.splice(0)) end();
  vi.restoreAllMocks();
});

/** Python's answers for vectors [step][item][dim], shown as they are. */
function model(vectors: number[][][], traits: object = {}, more: { values?: number[]; groups?: number[] } = {}) {
  const [items, dim] = [vectors[0]!.length, vectors[0]![0]!.length];
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const cosine = (a: number[], b: number[]) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const answer = ({ what, step, axes, feature, block }: Key) => {
    const now = vectors[(step ?? 0) as number]!;
    if (what === "points") {
      const part = now.slice(50_000 * (block as number), 50_000 * ((block as number) + 1));
      return tileOf(Float32Array.from(part.flatMap((each) => each.slice(0, axes as number))), [part.length, axes as number]); // prettier-ignore
    }
    if (what === "facts") {
      const part = now.slice(50_000 * (block as number), 50_000 * ((block as number) + 1));
      return tileOf(Float32Array.from(part.flatMap((each) => [Math.sqrt(dot(each, each)), 0.5])), [part.length, 2]);
    }
    if (what === "values" && more.values) return tileOf(Float32Array.from(more.values), [items]);
    if (what === "groups" && more.groups) return tileOf(Float32Array.from(more.groups), [items]);
    if (what === "labels") return jsonTile({ text: now.map((_, i) => LABELS[i] ?? String(i)), ids: null, special: [] });
    if (what === "near")
      return jsonTile(now.map((each, i) => [i, cosine(each, now[feature as number]!)] as const).filter(([i]) => i !== feature).sort((a, b) => b[1] - a[1])); // prettier-ignore
    if (what === "cosine") {
      const values = now.flatMap((a) => now.map((b) => cosine(a, b)));
      return tileOf(Float32Array.from(values), [items, items], { items: now.map((_, i) => i) });
    }
    throw new Error(`no tile is called ${what}`);
  };
  const state = {
    title: "Geometry", shape: [vectors.length, items, dim], steps: vectors.map((_, i) => `sparsity ${i}`),
    group_names: more.groups ? ["warm", "<b>cold"] : [], valued: more.values ? "degrees" : "",
    value_range: more.values ? [Math.min(...more.values), Math.max(...more.values)] : [],
    variance: dim > 2 ? [0.5, 0.25, 0.125] : [], bounds: [[-1, 1], [-1, 1], [-1, 1]].slice(0, Math.max(2, Math.min(dim, 3))),
    step: 0, feature: null, reading: "2d", rotation: [0, 0], _live: true, _opening: [], ...traits,
  }; // prettier-ignore
  return new Fake(state, answer);
}

async function show(fake: Fake, width = 1100) {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const end = await geometry.render({ model: fake, el });
  ends.push(() => {
    end();
    el.remove();
  });
  const canvas = () => el.querySelector<HTMLCanvasElement>("canvas.iw-points")!;
  const svg = () => el.querySelector<SVGSVGElement>(".iw-plot svg")!;
  await expect.poll(() => el.querySelector("canvas")).not.toBeNull();
  const status = () => el.querySelector(".iw-status")!.textContent.replace(/\s+/g, " ");
  const marks = () => [...el.querySelectorAll(".iw-mark text")];
  /** The colour under a place in the plane, as drawn. */
  const pixel = (x: number, y: number) => {
    const { width, height } = canvas();
    const [across, up] = [(x + 1.12) / 2.24, (1.12 - y) / 2.24];
    return [
      ...canvas()
        .getContext("2d")!
        .getImageData(Math.round(across * width), Math.round(up * height), 1, 1).data,
    ];
  };
  const place = (x: number, y: number) => {
    const [box, frame] = [canvas().getBoundingClientRect(), svg().getBoundingClientRect()];
    const [across, up] = [((x + 1.12) / 2.24) * box.width, ((1.12 - y) / 2.24) * box.height];
    return { x: box.left - frame.left + across, y: box.top - frame.top + up };
  };
  return { el, canvas, svg, status, marks, pixel, place };
}

test("points lie where their vectors end, with spokes from the origin and their names", async () => {
  const { el, pixel, marks, canvas } = await show(model([CROSS]));
  await expect.poll(() => pixel(1, 0)[3]).toBe(255);
  for (const [x, y] of CROSS) expect(pixel(x!, y!)).toEqual([11, 98, 164, 255]); // the first colour of series
  expect(pixel(0.5, 0)[3]).toBeGreaterThan(0); // a spoke
  expect(pixel(0.5, 0.5)[3]).toBe(0);
  expect(marks().map((mark) => mark.textContent)).toEqual(["east", LABELS[1]!.slice(0, 23) + "…", "</script>", "south"]); // prettier-ignore
  const box = canvas().getBoundingClientRect();
  expect(box.width).toBeCloseTo(box.height, 0); // angles are angles
  expect(el.textContent).toContain("both dimensions");
  expect(document.querySelectorAll(".interpwidgets img, .interpwidgets script").length).toBe(0);
});

test("a click selects, and the nearest are listed with their angles", async () => {
  const fake = model([CROSS]);
  const { el, svg, place, status } = await show(fake);
  vi.spyOn(SVGElement.prototype, "setPointerCapture").mockReturnValue(undefined);
  await userEvent.click(svg(), { position: place(0, -1) });
  expect(fake.saved.feature).toBe(3);
  await expect.poll(status).toContain("south item 3: length 1.0000, dimensionality 0.5000");
  await expect.poll(() => el.querySelectorAll(".iw-bars").length).toBe(2);
  const angles = () => [...el.querySelectorAll(".iw-bars")[0]!.querySelectorAll(".iw-bars-value")].map((each) => each.textContent); // prettier-ignore
  await expect.poll(angles).toEqual(["90.0°", "90.0°", "180.0°"]);
  await userEvent.click(el.querySelectorAll(".iw-bars")[0]!.querySelectorAll(".iw-bars-row")[2]!);
  expect(fake.saved.feature).toBe(1);
});

test("hovering tells and saves nothing; keys go from item to item", async () => {
  const fake = model([CROSS]);
  const { svg, place, status } = await show(fake);
  await userEvent.hover(svg(), { position: place(1, 0) });
  await expect.poll(status).toContain("east item 0");
  expect(fake.saved).toEqual({});
  await userEvent.unhover(svg());
  svg().focus();
  await userEvent.keyboard("{ArrowRight}{ArrowRight}");
  expect(fake.saved.feature).toBe(1);
  await userEvent.keyboard("{End}");
  await expect.poll(status).toContain("south item 3");
  await userEvent.keyboard("{Escape}");
  expect(fake.saved.feature).toBe(null);
});

test("the scrubber moves through the steps, and what Python sets is drawn", async () => {
  const tilted = CROSS.map(([x, y]) => [0.6 * x! - 0.8 * y!, 0.8 * x! + 0.6 * y!]);
  const fake = model([CROSS, tilted]);
  const { el, pixel } = await show(fake);
  await expect.poll(() => pixel(1, 0)[3]).toBe(255);
  const slider = el.querySelector<HTMLInputElement>("input[type=range]")!;
  slider.focus();
  await userEvent.keyboard("{ArrowRight}");
  expect(fake.saved.step).toBe(1);
  await expect.poll(() => pixel(0.6, 0.8)[3]).toBe(255);
  expect(pixel(1, 0)[3]).toBe(0);
  expect(el.textContent).toContain("sparsity 1");
  fake.change("step", 0);
  await expect.poll(() => pixel(1, 0)[3]).toBe(255);
});

test("values and groups are colours, and the legend says which", async () => {
  const values = [0, 10, 20, 40];
  const one = await show(model([CROSS], {}, { values }));
  const at = (value: number) => colour("light", (value / 40 + 0.18) / 1.18);
  await expect.poll(() => one.pixel(0, -1)).toEqual(at(40));
  expect(one.pixel(1, 0)).toEqual(at(0));
  expect(one.el.querySelector("[aria-label^='Colour']")!.getAttribute("aria-label")).toBe("Colour: degrees, from 0 to 40.0000"); // prettier-ignore
  const two = await show(model([CROSS], {}, { groups: [0, 1, 1, 0] }));
  await expect.poll(() => two.pixel(0, 1)).toEqual([180, 83, 9, 255]);
  expect(two.pixel(1, 0)).toEqual([11, 98, 164, 255]);
  expect(two.el.textContent).toContain("<b>cold");
});

const AXES = [[1, 0, 0, 9], [0, 1, 0, 9], [0, 0, 1, 9]]; // prettier-ignore

test("space turns by keys and by dragging, and says so once the button is up", async () => {
  const fake = model([AXES], { reading: "3d", feature: 0 });
  const { el, svg, canvas } = await show(fake);
  expect(el.textContent).toContain("3 of 4 dimensions, 87.5 % of the variance");
  const side = canvas().getBoundingClientRect().width;
  const ring = () => Number(el.querySelector(".iw-mark circle")!.getAttribute("cx"));
  const expected = (turn: number) => viewer([[-1, 1], [-1, 1], [-1, 1]], turn, 0, side)(1, 0, 0)[0]; // prettier-ignore
  await expect.poll(ring).toBeCloseTo(expected(0), 1);
  svg().focus();
  await userEvent.keyboard("{ArrowRight}{ArrowRight}");
  expect(fake.saved.rotation).toEqual([15, 0]);
  await expect.poll(ring).toBeCloseTo(expected(15), 1);
  vi.spyOn(SVGElement.prototype, "setPointerCapture").mockReturnValue(undefined);
  const box = svg().getBoundingClientRect();
  const pointer = (type: string, x: number) =>
    svg().dispatchEvent(new PointerEvent(type, { clientX: box.left + x, clientY: box.top + 50, pointerId: 1, bubbles: true })); // prettier-ignore
  pointer("pointerdown", 50);
  pointer("pointermove", 110);
  await expect.poll(ring).toBeCloseTo(expected(45), 1);
  expect(fake.saved.rotation).toEqual([15, 0]);
  pointer("pointerup", 110);
  expect(fake.saved.rotation).toEqual([45, 0]);
  await userEvent.keyboard("{Shift>}{ArrowRight}{/Shift}");
  expect(fake.saved.feature).toBe(1);
});

test("a turn keeps lengths", () => {
  const [turn, tilt] = [360 * Math.random(), 180 * Math.random() - 90];
  const at = viewer([[-1, 1], [-1, 1], [-1, 1]], turn, tilt, 2 * 1.12 * 1.5); // prettier-ignore
  const origin = at(0, 0, 0);
  for (let i = 0; i < 20; i++) {
    const point = [0, 1, 2].map(() => Math.random() - 0.5) as [number, number, number];
    const seen = at(...point).map((value, j) => value - origin[j]!);
    expect(Math.hypot(...seen)).toBeCloseTo(Math.hypot(...point), 6);
  }
});

test("cosines are a matrix, and its diagonal is the selection", async () => {
  const fake = model([CROSS], { reading: "cosine" });
  const { el } = await show(fake);
  const canvas = () => el.querySelector<HTMLCanvasElement>(".iw-heat canvas")!;
  await expect.poll(canvas).not.toBeNull();
  const box = canvas().getBoundingClientRect();
  const cell = (row: number, column: number) => ({ x: ((column + 0.5) / 4) * box.width, y: ((row + 0.5) / 4) * box.height }); // prettier-ignore
  const pixel = (row: number, column: number) => {
    const { x, y } = cell(row, column);
    const ratio = canvas().width / box.width;
    return [
      ...canvas()
        .getContext("2d")!
        .getImageData(x * ratio, y * ratio, 1, 1).data,
    ];
  };
  await expect.poll(() => pixel(0, 0)).toEqual(colour("diverging-light", 1));
  expect(pixel(0, 2)).toEqual(colour("diverging-light", 0));
  expect(pixel(0, 1)).toEqual(colour("diverging-light", 0.5));
  await userEvent.hover(canvas(), { position: cell(0, 2) });
  await expect.poll(() => el.textContent).toContain("cosine of east and </script>: −1.0000");
  await userEvent.click(canvas(), { position: cell(3, 1) });
  expect(fake.saved.feature).toBe(3);
});

test("a hundred thousand points are drawn and found", async () => {
  const many = Array.from({ length: 100_000 }, () => [2 * Math.random() - 1, 2 * Math.random() - 1]);
  many[77_777] = [1.1, 1.1];
  const fake = model([many]);
  const { canvas, svg, place, status } = await show(fake);
  const inked = () => {
    const { data } = canvas().getContext("2d")!.getImageData(0, 0, canvas().width, canvas().height);
    let count = 0;
    for (let i = 3; i < data.length; i += 4) count += data[i] ? 1 : 0;
    return count / (canvas().width * canvas().height);
  };
  await expect.poll(inked, { timeout: 8000 }).toBeGreaterThan(0.4);
  await userEvent.hover(svg(), { position: place(1.1, 1.1) });
  await expect.poll(status).toContain("item 77,777: length 1.5556");
  const at = Float32Array.from(many.flat());
  const [x, y] = [Math.random(), Math.random()];
  const truth = many.map(([a, b]) => Math.hypot(a! - x, b! - y)).reduce((least, each, i, all) => (each < all[least]! ? i : least), 0); // prettier-ignore
  expect(pointAt(at, x, y)).toBe(truth);
  expect(pointAt(at, 50, 50)).toBe(null);
}, 20_000);

test("narrow, it stacks; a saved copy says that it is one; plane and cosines are all there is of two dimensions", async () => {
  const { el, status } = await show(model([CROSS], { _live: false }), 360);
  const columns = [...el.querySelectorAll(".iw-columns > div")].map((each) => each.getBoundingClientRect());
  expect(columns[1]!.top).toBeGreaterThanOrEqual(columns[0]!.bottom);
  expect(Math.max(...columns.map(({ width }) => width))).toBeLessThanOrEqual(360);
  expect(status()).toContain("saved copy");
  expect([...el.querySelectorAll("[aria-label=as] button")].map((each) => each.textContent)).toEqual(["plane", "cosines"]); // prettier-ignore
});
