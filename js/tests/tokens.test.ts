// Text on the colour of its values: what is drawn, what a click, a drag and a key select, and any length.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import tokensView from "../views/tokens.tsx";
import { Fake, jsonTile, tileOf } from "./fake.ts";
import { chunkOf, endAll, rgb, show, styled } from "./text.ts";

const WORDS = ["the", "␣cat", "↵", "␣sat", "␣on"];

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

type Series = Record<string, number[]>;

function model(texts: string[][], series: Series[], traits: object = {}, block = 1 << 17): Fake {
  const names = Object.keys(series[0] ?? {});
  const fake = new Fake(
    {
      title: "Tokens", prompts: texts.map((text, i) => ({ name: `prompt ${i}`, size: text.length, block })), prompt: 0,
      series_names: names, series: names[0] ?? "", side_by_side: false, scale: "linear", colour_range: [], search: "",
      position: null, span: [], _live: true, _opening: [], _version: 0, ...traits,
    },
    ({ what, prompt, chunk, block: b }) => {
      if (what === "tokens") return jsonTile(chunkOf(texts[prompt]!, chunk as number));
      if (what !== "values") throw new Error("no such tile");
      const part = names.map((name) => series[prompt]![name]!.slice((b as number) * block, ((b as number) + 1) * block));
      return tileOf(Float32Array.from(part.flat()), [names.length, part[0]!.length]);
    },
  ); // prettier-ignore
  return fake;
}

const VALUES = { loss: [NaN, 1, 2, 4, 0.5], change: [-1, 0, 1, 2, -2] };
const background = (token: HTMLElement) => getComputedStyle(token).backgroundColor;
const trait = (fake: Fake, name: string) => expect.poll(() => fake.saved[name]);

describe("what is drawn", () => {
  test("every token, in order, on the colour of its value", async () => {
    const shown = await show(tokensView, model([WORDS], [VALUES]));
    await expect.poll(shown.tokens).toEqual(WORDS);
    for (const [i, value] of VALUES.loss.entries())
      if (i) await expect.poll(() => background(shown.token(i))).toBe(rgb("light", value / 4));
    expect(shown.token(0).classList).toContain("iw-missing");
  });

  test("a newline ends its line, and a narrow place wraps", async () => {
    const shown = await show(tokensView, model([[...WORDS, ...WORDS]], [{ loss: [...VALUES.loss, ...VALUES.loss] }]));
    const top = (i: number) => shown.token(i).getBoundingClientRect().top;
    await expect.poll(() => top(3)).toBeGreaterThan(top(2));
    expect(top(2)).toBe(top(0));
    expect(top(6)).toBe(top(3));
    shown.el.style.width = "130px";
    await expect.poll(() => top(6)).toBeGreaterThan(top(3));
  });

  test("signed values on the diverging palette, and another series on its own", async () => {
    const fake = model([WORDS], [VALUES]);
    const shown = await show(tokensView, fake);
    await userEvent.selectOptions(shown.one(".iw-row select"), "change");
    await trait(fake, "series").toBe("change");
    for (const [i, value] of VALUES.change.entries())
      await expect.poll(() => background(shown.token(i))).toBe(rgb("diverging-light", (1 + value / 2) / 2));
    fake.change("colour_range", [0, 1]);
    await expect.poll(() => background(shown.token(3))).toBe(rgb("diverging-light", 1));
  });

  test("a scale, and a range", async () => {
    const fake = model([WORDS], [VALUES], { scale: "sqrt", colour_range: [0, 2] });
    const shown = await show(tokensView, fake);
    await expect.poll(() => background(shown.token(1))).toBe(rgb("light", Math.sqrt(0.5)));
    await expect.poll(() => background(shown.token(3))).toBe(rgb("light", 1));
  });

  test("all series under the text, as stripes in their own colours", async () => {
    const fake = model([WORDS], [VALUES], { side_by_side: true });
    const shown = await show(tokensView, fake);
    await expect.poll(() => shown.token(3).style.background).toContain("linear-gradient");
    const plain = shown.token(3).style.background.replaceAll(" ", "");
    for (const one of [rgb("light", 1), rgb("diverging-light", 1)]) expect(plain).toContain(one.replaceAll(" ", ""));
    expect(
      shown
        .all(".iw-flow small")
        .slice(0, 2)
        .map((name) => name.textContent),
    ).toEqual(["loss", "change"]);
  });

  test("in the dark", async () => {
    document.documentElement.setAttribute("style", "--jp-ui-font-color1: #eee");
    const shown = await show(tokensView, model([WORDS], [VALUES]));
    await expect.poll(() => background(shown.token(3))).toBe(rgb("dark", 1));
  });

  test("without values there is text, and nothing that needs them", async () => {
    const fake = model([WORDS], [{}]);
    const shown = await show(tokensView, fake);
    await expect.poll(shown.tokens).toEqual(WORDS);
    expect(shown.all(".iw-legend, .iw-spark")).toEqual([]);
    expect(fake.asked.flat().every((key) => key.includes("tokens"))).toBe(true);
  });

  test("the line under the text rises where the value does", async () => {
    const shown = await show(tokensView, model([WORDS], [{ loss: [0, 0, 0, 4, 4] }]));
    const canvas = await expect.poll(() => shown.one<HTMLCanvasElement>(".iw-spark canvas")).toBeTruthy().then(() => shown.one<HTMLCanvasElement>(".iw-spark canvas")); // prettier-ignore
    const inked = (x: number, top: number, bottom: number) => {
      const { width, height } = canvas;
      const image = canvas.getContext("2d")!.getImageData(x * width - 2, top * height, 4, (bottom - top) * height);
      return image.data.some((value, i) => i % 4 === 3 && value > 60);
    };
    await expect.poll(() => inked(0.3, 0.8, 1)).toBe(true);
    await expect.poll(() => inked(0.8, 0, 0.2)).toBe(true);
    expect(inked(0.3, 0, 0.5)).toBe(false);
    expect(inked(0.8, 0.5, 1)).toBe(false);
  });
});

describe("what is selected", () => {
  test("a click selects a token, and another click lets it go", async () => {
    const fake = model([WORDS], [VALUES]);
    const shown = await show(tokensView, fake);
    await expect.poll(shown.tokens).toEqual(WORDS);
    await userEvent.click(shown.token(3));
    await trait(fake, "position").toBe(3);
    expect(shown.token(3).getAttribute("aria-selected")).toBe("true");
    await userEvent.unhover(shown.token(3));
    await expect.poll(() => shown.text(".iw-status")).toContain("␣sat3loss 4.0000change 2.0000");
    await userEvent.click(shown.token(3));
    await trait(fake, "position").toBe(null);
  });

  test("pointing tells the exact values, and nothing to Python", async () => {
    const fake = model([WORDS], [VALUES]);
    const shown = await show(tokensView, fake);
    await expect.poll(shown.tokens).toEqual(WORDS);
    const asked = fake.asked.length;
    await userEvent.hover(shown.token(4));
    await expect.poll(() => shown.text(".iw-status")).toContain("␣on4loss 0.5000change −2.0000");
    await userEvent.hover(shown.token(0));
    await expect.poll(() => shown.text(".iw-status")).toContain("loss missing");
    expect(fake.saved).toEqual({});
    expect(fake.asked.length).toBe(asked);
  });

  test("a drag and Shift select a span, whose means are told", async () => {
    const fake = model([WORDS], [VALUES]);
    const shown = await show(tokensView, fake);
    await expect.poll(shown.tokens).toEqual(WORDS);
    await userEvent.dragAndDrop(shown.token(1), shown.token(4));
    await trait(fake, "span").toEqual([1, 5]);
    await trait(fake, "position").toBe(1);
    await userEvent.click(shown.token(3));
    await trait(fake, "span").toEqual([]);
    await userEvent.keyboard("{Shift>}");
    await userEvent.click(shown.token(1));
    await userEvent.keyboard("{/Shift}");
    await trait(fake, "span").toEqual([1, 4]);
    expect(fake.saved.position).toBe(3);
    await userEvent.unhover(shown.flow());
    await expect.poll(() => shown.text(".iw-status")).toContain("3 tokens, ␣cat1 to ␣sat3mean loss 2.3333");
    expect(shown.all(".iw-within").length).toBeGreaterThanOrEqual(3);
  });

  test("arrow keys move, Shift extends, Escape lets go", async () => {
    const fake = model([WORDS], [VALUES], { position: 1 });
    const shown = await show(tokensView, fake);
    await expect.poll(shown.tokens).toEqual(WORDS);
    shown.flow().focus();
    await userEvent.keyboard("{ArrowRight}");
    await trait(fake, "position").toBe(2);
    await userEvent.keyboard("{Shift>}{ArrowRight}{ArrowRight}{/Shift}");
    await trait(fake, "span").toEqual([2, 5]);
    await userEvent.keyboard("{Shift>}{ArrowLeft}{ArrowLeft}{ArrowLeft}{/Shift}");
    await trait(fake, "span").toEqual([1, 3]);
    expect(fake.saved.position).toBe(2);
    await userEvent.keyboard("{Home}");
    await trait(fake, "position").toBe(0);
    await userEvent.keyboard("{ArrowDown}");
    await trait(fake, "position").toBe(3);
    await userEvent.keyboard("{End}{ArrowRight}");
    await trait(fake, "position").toBe(4);
    expect(shown.flow().getAttribute("aria-activedescendant")).toBe(shown.token(4).id);
    await userEvent.keyboard("{Escape}");
    await trait(fake, "position").toBe(null);
  });

  test("Python moves the selection, and search goes from hit to hit", async () => {
    const fake = model([WORDS], [VALUES]);
    const shown = await show(tokensView, fake);
    await expect.poll(shown.tokens).toEqual(WORDS);
    fake.change("position", 4);
    await expect.poll(() => shown.token(4).className).toContain("iw-active");
    await userEvent.fill(shown.one<HTMLInputElement>("input[type=search]"), " s");
    await expect.poll(() => shown.text(".iw-search")).toContain("1 found");
    expect(shown.token(3).className).toContain("iw-found");
    await userEvent.click(shown.one(".iw-search button"));
    await trait(fake, "position").toBe(3);
  });

  test("another prompt has its own text, and nothing selected", async () => {
    const other = { loss: [1, 2], change: [1, 2] };
    const fake = model([WORDS, ["a", "↵"]], [VALUES, other], { position: 4, span: [3, 5] });
    const shown = await show(tokensView, fake);
    await userEvent.selectOptions(shown.one(".iw-row select"), "prompt 1");
    await expect.poll(shown.tokens).toEqual(["a", "↵"]);
    expect([fake.saved.prompt, fake.saved.position, fake.saved.span]).toEqual([1, null, []]);
  });
});

describe("any length", () => {
  const size = 100_000;
  const long = Array.from({ length: size }, (_, i) => (i % 97 ? `␣w${i % 1000}` : "↵"));
  const loss = long.map((_, i) => i % 100);

  test("a hundred thousand tokens are a few hundred elements, wherever one looks", async () => {
    const fake = model([long], [{ loss }]);
    const shown = await show(tokensView, fake);
    await expect.poll(() => shown.tokens().slice(0, 3)).toEqual(long.slice(0, 3));
    await expect.poll(() => new Set(fake.asked.flat()).size, { timeout: 10000 }).toBeGreaterThan(97);
    expect(shown.all(".iw-flow span").length).toBeLessThan(1500);
    fake.change("position", 54_321);
    await expect.poll(() => shown.token(54_321).textContent).toBe(long[54_321]);
    const box = shown.flow().getBoundingClientRect();
    const token = shown.token(54_321).getBoundingClientRect();
    expect(token.top).toBeGreaterThanOrEqual(box.top - 1);
    expect(token.bottom).toBeLessThanOrEqual(box.bottom + 1);
    expect(background(shown.token(54_321))).toBe(rgb("light", (54_321 % 100) / 99));
    shown.flow().scrollTop = shown.flow().scrollHeight;
    await expect.poll(() => shown.tokens().at(-1)).toBe(long.at(-1));
    expect(shown.all(".iw-flow span").length).toBeLessThan(1500);
  });

  test("no token is drawn twice or left out, whatever the width", async () => {
    for (const width of [360, 800]) {
      const shown = await show(tokensView, model([long.slice(0, 3000)], [{ loss: loss.slice(0, 3000) }]), width);
      await expect.poll(() => shown.tokens().length).toBeGreaterThan(50);
      const flow = shown.flow();
      const seen = new Set<number>();
      for (let top = 0; top < flow.scrollHeight; top += 300) {
        flow.scrollTop = top;
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        const drawn = shown.all(".iw-flow [data-at]").map((token) => Number(token.dataset.at));
        expect(drawn).toEqual(Array.from(drawn, (_, i) => drawn[0]! + i));
        drawn.forEach((at) => seen.add(at));
        for (const line of shown.all(".iw-flow-line"))
          expect(line.lastElementChild!.getBoundingClientRect().right).toBeLessThan(flow.getBoundingClientRect().right);
      }
      expect(seen.size).toBe(3000);
      shown.end();
    }
  });
});

test("a token is text, whatever it says", async () => {
  const hostile = ["<img src=x onerror=window.hacked=1>", "</script>", "עברית", "&lt;", "${hacked}", "x".repeat(500)];
  const fake = model([hostile], [{ [hostile[0]!]: hostile.map((_, i) => i) }], { title: hostile[0], position: 0 });
  const shown = await show(tokensView, fake, 400);
  await expect.poll(shown.tokens).toEqual(hostile);
  expect(shown.all("img, script, iframe")).toEqual([]);
  expect("hacked" in window).toBe(false);
  expect(shown.token(5).getBoundingClientRect().right).toBeLessThanOrEqual(shown.el.getBoundingClientRect().right);
});

test.each([360, 700, 1100])("%d pixels: nothing sticks out", async (width) => {
  const shown = await show(tokensView, model([WORDS, WORDS], [VALUES, VALUES], { side_by_side: true }), width);
  await expect.poll(shown.tokens).toEqual(WORDS);
  const right = shown.el.getBoundingClientRect().right;
  for (const element of shown.all("canvas, button, input, select, .iw-flow, .iw-flow span"))
    expect(element.getBoundingClientRect().right, element.outerHTML.slice(0, 80)).toBeLessThanOrEqual(right + 1);
});

test("a saved copy opens with what it holds, and says that nothing is computed", async () => {
  const fake = model([WORDS], [VALUES], { _live: false });
  fake.open([{ what: "tokens", prompt: 0, chunk: 0 }, { what: "values", prompt: 0, block: 0 }]); // prettier-ignore
  const shown = await show(tokensView, fake);
  expect(shown.tokens()).toEqual(WORDS);
  expect(background(shown.token(3))).toBe(rgb("light", 1));
  expect(fake.asked).toEqual([]);
  expect(shown.text(".iw-status")).toContain("saved copy");
});

test("values in several blocks are one text", async () => {
  const fake = model([WORDS], [VALUES], {}, 2);
  const shown = await show(tokensView, fake);
  await expect.poll(() => background(shown.token(4))).toBe(rgb("light", 0.5 / 4));
  expect(background(shown.token(1))).toBe(rgb("light", 1 / 4));
});
