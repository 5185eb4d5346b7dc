// The training view: lines at their values, a cursor that is dragged, moved by keys, and plays.
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { page, userEvent } from "vitest/browser";
import { line, nearest } from "../parts/plot.tsx";
import { placed, ticks } from "../parts/scale.ts";
import training from "../views/training.tsx";
import { styled } from "./attention.ts";
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";

const STEPS = [0, 1, 10, 100, 1000];
const VALUES: Record<string, number[][]> = {
  train_loss: [[4, 3, 2, 1, 0]],
  test_loss: [[4, 4, 3, 2, 1], [3, 3.5, 2, 1, 0.5], [5, 4.5, 4, 3, 2]], // prettier-ignore
  accuracy: [[0, 0.25, NaN, 0.75, 1]],
};
const ends: (() => void)[] = [];

beforeAll(styled);
beforeEach(() => page.viewport(1200, 900));
afterEach(() => {
  for (const end of ends.splice(0)) end();
  document.documentElement.removeAttribute("style");
});

function model(traits: object = {}, values = VALUES, steps = STEPS) {
  const answer = ({ what, name }: Key) => {
    if (what === "steps") return jsonTile(steps);
    const rows = values[name as string];
    if (!rows) throw new Error(`no metric is called ${name as string}`);
    return tileOf(Float32Array.from(rows.flat()), [rows.length, steps.length]);
  };
  const panels = [["train_loss", "test_loss"], ["accuracy"]];
  const state = {
    title: "Training", panels, banded: "", step: 4, x_scale: "linear", axis: "step", failed: "", _live: true,
    _opening: [], ...traits,
  }; // prettier-ignore
  return new Fake(state, answer).open([
    { what: "steps" },
    ...Object.keys(values).map((name) => ({ what: "metric", name })),
  ]);
}

async function show(fake: Fake, width = 1100) {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const end = await training.render({ model: fake, el });
  ends.push(() => {
    end();
    el.remove();
  });
  const all = <E extends Element = HTMLElement>(selector: string) => [...el.querySelectorAll<E>(selector)];
  const text = (selector: string) => all(selector)[0]!.textContent.replace(/\s+/g, " ").trim();
  return { el, all, text };
}
const plot = (el: HTMLElement, i = 0) => el.querySelectorAll<SVGSVGElement>(".iw-plot svg")[i]!;
/** The points of a line, as drawn. */
const points = (path: Element) =>
  [...path.getAttribute("d")!.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);

test("lines pass through their values, and a gap stays a gap", async () => {
  const { el, all } = await show(model());
  const [train, test_loss] = all<SVGPathElement>("figure:first-child .iw-lines path[stroke]");
  const at = points(train!);
  expect(at.length).toBe(5);
  const [top, bottom] = [at[0]![1]!, at[4]![1]!];
  for (const [i, [x, y]] of at.entries()) {
    expect(x).toBeCloseTo(at[0]![0]! + ((at[4]![0]! - at[0]![0]!) * STEPS[i]!) / 1000, 0);
    expect(y).toBeCloseTo(top + (bottom - top) * (i / 4), 0); // 4, 3, 2, 1, 0
  }
  expect(points(test_loss!)[0]![1]).toBeCloseTo(top, 0);
  expect(all("figure:first-child .iw-lines path[opacity]").length).toBe(1); // one band
  const gap = all<SVGPathElement>("figure:last-child .iw-lines path[stroke]")[0]!.getAttribute("d")!;
  expect(gap.match(/M/g)!.length).toBe(2);
  expect(plot(el).getAttribute("role")).toBe("slider");
});

test("the cursor is moved by keys and by dragging, and tells exact values", async () => {
  const fake = model();
  const { el, text, all } = await show(fake);
  plot(el).focus();
  await userEvent.keyboard("{ArrowLeft}");
  expect(fake.saved.step).toBe(3);
  await expect.poll(() => text(".iw-status")).toContain("step 100, checkpoint 4 of 5");
  expect(text("figcaption")).toContain("train_loss 1.0000");
  expect(text("figcaption")).toContain("test_loss 2.0000 (1.0000 … 3.0000)");
  await userEvent.keyboard("{Home}");
  expect(fake.saved.step).toBe(0);
  await userEvent.keyboard("{ArrowLeft}");
  expect(fake.saved.step).toBe(0);
  await userEvent.keyboard("{ArrowRight}{ArrowRight}");
  await expect.poll(() => text("figure:last-child figcaption")).toContain("accuracy not measured");
  expect(plot(el).getAttribute("aria-valuetext")).toBe("step 10");
  const box = plot(el).getBoundingClientRect();
  const drag = (type: string, share: number) =>
    plot(el).dispatchEvent(
      new PointerEvent(type, { clientX: box.left + 52 + share * (box.width - 72), clientY: box.top + 50, buttons: 1, pointerId: 1, bubbles: true }),
    ); // prettier-ignore
  vi.spyOn(SVGElement.prototype, "setPointerCapture").mockReturnValue(undefined);
  drag("pointerdown", 0.98);
  expect(fake.saved.step).toBe(4);
  drag("pointermove", 0.12);
  expect(fake.saved.step).toBe(3);
  await expect.poll(() => Number(all<SVGLineElement>(".iw-cursor")[0]!.getAttribute("x1"))).toBeCloseTo(52 + 0.1 * (box.width - 72), 0); // prettier-ignore
});

test("hovering reads values and tells Python nothing", async () => {
  const fake = model();
  const { el, text } = await show(fake);
  const box = plot(el).getBoundingClientRect();
  await userEvent.hover(plot(el), { position: { x: 54, y: box.height / 2 } });
  await expect.poll(() => text(".iw-status")).toContain("step 1, checkpoint 2 of 5");
  expect(text(".iw-status")).toContain("the cursor is on step 1,000");
  expect(fake.saved).toEqual({});
});

test("what Python sets is drawn", async () => {
  const fake = model();
  const { text, all } = await show(fake);
  fake.change("step", 1);
  await expect.poll(() => text(".iw-status")).toContain("step 1, checkpoint 2 of 5");
  fake.change("panels", [["accuracy"]]);
  await expect.poll(() => all("figure").length).toBe(1);
  fake.change("failed", "LensView did not follow");
  await expect.poll(() => text(".iw-status")).toContain("LensView did not follow");
});

test("a log axis has room for step 0, and powers of ten at equal distances", async () => {
  const fake = model();
  const { all } = await show(fake);
  await userEvent.click(all("button").find((button) => button.textContent === "log")!);
  expect(fake.saved.x_scale).toBe("log");
  await expect
    .poll(() => {
      const xs = points(all<SVGPathElement>(".iw-lines path[stroke]")[0]!).map(([x]) => x!);
      return xs.slice(2).map((x, i) => Math.round(x - xs[i + 1]!));
    })
    .toSatisfy((gaps: number[]) => Math.max(...gaps) - Math.min(...gaps) <= 1 && gaps[0]! > 20);
});

test("it plays from the beginning to the end, and stops there", async () => {
  const fake = model({ step: 4 }, { loss: [[1, 2]] }, [0, 5]);
  fake.state.panels = [["loss"]];
  fake.state.step = 1;
  const { all } = await show(fake);
  const button = () => all<HTMLButtonElement>(".iw-row button")[0]!;
  await userEvent.click(button());
  expect(fake.saved.step).toBe(0);
  await expect.poll(() => fake.saved.step, { timeout: 3000 }).toBe(1);
  await expect.poll(() => button().getAttribute("aria-pressed"), { timeout: 3000 }).toBe("false");
});

test("names are text, whatever they say", async () => {
  const name = "<img src=x onerror=window.hacked=1></script>";
  const fake = model({ panels: [[name]], title: name, axis: name }, { [name]: [[1, 2, 3, 4, 5]] });
  const { el, text } = await show(fake);
  expect(text("figcaption")).toContain(name);
  expect(el.querySelectorAll("img, script").length).toBe(0);
});

test("narrow, it stacks; without a kernel it says so; dark, it has other colours", async () => {
  const fake = model({ _live: false });
  const { all, text } = await show(fake, 360);
  const [one, two] = all("figure").map((figure) => figure.getBoundingClientRect());
  expect(two!.top).toBeGreaterThan(one!.bottom - 1);
  expect(one!.width).toBeLessThanOrEqual(360);
  expect(text(".iw-status")).toContain("saved copy");
  const light = all(".iw-lines path[stroke]")[0]!.getAttribute("stroke");
  document.documentElement.style.colorScheme = "dark";
  document.documentElement.style.setProperty("--jp-ui-font-color1", "#eee");
  document.body.setAttribute("data-theme", "dark");
  await expect.poll(() => all(".iw-lines path[stroke]")[0]!.getAttribute("stroke")).not.toBe(light);
  document.body.removeAttribute("data-theme");
});

test("a metric that Python refuses is named", async () => {
  const fake = model({ panels: [["train_loss"], ["lost"]] });
  const { text } = await show(fake);
  await expect.poll(() => text(".iw-status")).toContain("no metric is called lost");
});

test("a crowded line keeps the extremes of each pixel", () => {
  const size = 100_000;
  const x = Float32Array.from({ length: size }, (_, i) => i);
  const y = Float32Array.from({ length: size }, () => Math.random());
  const spike = Math.floor(Math.random() * size);
  y[spike] = 40;
  const laid = { x: placed({ name: "", low: 0, high: size }, 0, 500), y: placed({ name: "", low: 0, high: 40 }, 100, 0), left: 0, right: 500, top: 0, bottom: 100, same: "" }; // prettier-ignore
  const path = line(x, y, laid);
  expect(path.length).toBeLessThan(60_000);
  const drawn = [...path.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, a, b]) => [Number(a), Number(b)]);
  expect(drawn.some(([a, b]) => b === 0 && Math.abs(a! - (spike / size) * 500) <= 1)).toBe(true);
});

test("places and their values are inverse, and ticks are round", () => {
  const low = Math.random() * 10;
  for (const axis of [
    { name: "", low, high: low + 5 },
    { name: "", low: 0.01 + low, high: 5000, kind: "log" as const },
    { name: "", low: 0, high: 5000, kind: "log" as const, first: 0.5 },
  ]) {
    const { at, back } = placed(axis, 40, 640);
    for (const share of [0, 0.03, 0.3, 0.9, 1]) expect(at(back(40 + 600 * share))).toBeCloseTo(40 + 600 * share, 4);
  }
  expect(ticks(0, 2000).map(([, text]) => text)).toEqual(["0", "500", "1,000", "1,500", "2,000"]);
  expect(ticks(-0.3, 0.3, 6).map(([, text]) => text)).toEqual(["−0.3", "−0.2", "−0.1", "0.0", "0.1", "0.2", "0.3"]);
  const list = [0, 1, 5, 5.5, 9];
  for (let i = 0; i < 50; i++) {
    const value = 12 * Math.random() - 1;
    const best = Math.min(...list.map((each) => Math.abs(each - value)));
    expect(Math.abs(list[nearest(list, value)]! - value)).toBe(best);
  }
});
