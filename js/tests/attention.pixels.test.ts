// What the attention view draws: every pixel against the weight it stands for.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { page } from "vitest/browser";
import { colour, endAll, model, pixel, show, styled, telling } from "./attention.ts";

const WORDS = ["the", "␣cat", "␣sat", "␣on", "␣the", "␣cat"];
const T = WORDS.length;

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

describe("pixels", () => {
  test.each(["linear", "sqrt"])("every cell has the colour of its weight, %s", async (scale) => {
    const fake = model([{ tokens: WORDS }], { scale, colour_range: [0, 1], layer: 1, head: 2 });
    const shown = await show(fake);
    for (let q = 0; q < T; q++)
      for (let k = 0; k < T; k++) {
        const weight = telling(1, 2, q, k);
        const expected = k > q ? [0, 0, 0, 0] : colour("light", scale === "sqrt" ? weight ** 0.5 : weight);
        await expect.poll(() => pixel(shown.canvas(), q, k, T), { message: `${q} → ${k}` }).toEqual(expected);
      }
  });

  test("a trait set in Python changes what is drawn", async () => {
    const fake = model([{ tokens: WORDS }], { colour_range: [0, 1] });
    const shown = await show(fake);
    const at = () => pixel(shown.canvas(), 3, 1, T);
    await expect.poll(at).toEqual(colour("light", telling(0, 0, 3, 1)));
    fake.change("layer", 1);
    fake.change("head", 2);
    await expect.poll(at).toEqual(colour("light", telling(1, 2, 3, 1)));
    expect(shown.text(".iw-large strong")).toBe("Layer 1, head 2");
    expect(shown.head(1, 2).getAttribute("aria-pressed")).toBe("true");
    fake.change("colour_range", [0, 0.5]);
    await expect.poll(at).toEqual(colour("light", Math.min(1, 2 * telling(1, 2, 3, 1))));
    fake.change("aggregate", "max");
    const most = Math.max(...[0, 1, 2].map((head) => telling(1, head, 3, 1)));
    await expect.poll(at).toEqual(colour("light", Math.min(1, 2 * most)));
  });

  test("a trait set while the view is still being drawn is not lost", async () => {
    const fake = model([{ tokens: WORDS }], { colour_range: [0, 1] });
    const shown = await show(fake);
    fake.change("head", 1); // before the first frame: nobody listens yet
    await expect.poll(() => shown.head(0, 1).getAttribute("aria-pressed")).toBe("true");
    await expect.poll(() => pixel(shown.canvas(), 3, 1, T)).toEqual(colour("light", telling(0, 1, 3, 1)));
  });

  test("nothing came with the view: everything is asked for and drawn", async () => {
    const fake = model([{ tokens: WORDS }], { colour_range: [0, 1] }, false);
    const shown = await show(fake);
    await expect.poll(() => pixel(shown.canvas(), 5, 0, T)).toEqual(colour("light", telling(0, 0, 5, 0)));
    await expect.poll(() => shown.text(".iw-tokens")).toContain("␣sat");
    expect(Math.max(...fake.asked.map((keys) => keys.length))).toBeLessThanOrEqual(8);
    const asked = fake.asked.flat();
    expect(asked.length).toBe(new Set(asked).size);
  });

  test("what came with the view is not asked for", async () => {
    const fake = model([{ tokens: WORDS }]);
    const shown = await show(fake);
    await expect.poll(() => pixel(shown.canvas(), 0, 0, T)[3]).toBe(255);
    await expect.poll(() => fake.asked).toEqual([[]]); // is anyone there?
  });

  test("thumbnails are drawn, and a missing weight hides no other", async () => {
    const long = Array.from({ length: 250 }, (_, i) => `w${i}`);
    const fake = model(
      [
        { tokens: long, causal: false, weights: (_l, _h, q, k) => (q % 2 || k % 2 ? 1 : NaN) },
        { tokens: long, causal: false, weights: () => 0 },
      ],
      { compare: 1, difference: true },
    );
    const shown = await show(fake);
    const thumbs = shown.one<HTMLCanvasElement>(".iw-thumbs canvas");
    const middle = () => {
      const { x, y, width, height } = shown.head(0, 0).getBoundingClientRect();
      const box = thumbs.getBoundingClientRect();
      const ratio = thumbs.width / box.width;
      const at = [(x - box.x + width / 2) * ratio, (y - box.y + height / 2) * ratio].map(Math.floor) as [
        number,
        number,
      ];
      return [...thumbs.getContext("2d")!.getImageData(...at, 1, 1).data];
    };
    await expect.poll(middle).toEqual(colour("diverging-light", 1));
  });

  test("dark and light follow the host", async () => {
    const fake = model([{ tokens: WORDS }], { colour_range: [0, 1] });
    const shown = await show(fake);
    const at = () => pixel(shown.canvas(), 3, 1, T);
    await expect.poll(at).toEqual(colour("light", telling(0, 0, 3, 1)));
    document.documentElement.setAttribute("style", "--jp-ui-font-color1: #eee; --jp-layout-color0: #111");
    await expect.poll(at).toEqual(colour("dark", telling(0, 0, 3, 1)));
    document.documentElement.removeAttribute("style");
    await expect.poll(at).toEqual(colour("light", telling(0, 0, 3, 1)));
  });
});
