// Next tokens: the text on what the model made of it, and what it expected at one place.
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import topTokens from "../views/top_tokens.tsx";
import { Fake, jsonTile, tileOf } from "./fake.ts";
import { chunkOf, endAll, rgb, show, styled } from "./text.ts";

const WORDS = ["the", "␣cat", "␣sat", "␣on", "␣mats"];
const VOCAB = 16; // so that colours go to 4 bits

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

// Surprise, rank, probability, entropy; of the second run; KL and change: a row a number, a column a position.
const FIRST = [[1, 2, 4, 0.5, NaN], [0, 1, 9, 0, NaN], [0.5, 0.25, 0.0625, 0.7, NaN], [3, 2, 1, 4, 0]]; // prettier-ignore
const SECOND = [[2, 2, 1, 0.5, NaN], [1, 1, 0, 0, NaN], [0.25, 0.25, 0.5, 0.7, NaN], [1, 2, 3, 4, 4]]; // prettier-ignore
const BETWEEN = [[0.5, 0, 2, 0, 1], [1, 0, -3, 0, NaN]]; // prettier-ignore
const TOP = (run: number) => ({
  tokens: WORDS.map((_, i) => [`␣a${run}${i}`, WORDS[i + 1] ?? "␣end"]),
  ids: WORDS.map((_, i) => [90, i === 2 ? 91 : i + 1]), // at position 2 the one that came is not among them
  p: WORDS.map((_, i) => [0.6 - i / 10, 0.25]),
});

function model(runs: string[], traits: object = {}, block = 16): Fake {
  return new Fake(
    {
      title: "Next tokens", prompts: [{ name: "prompt 0", size: 5, vocab: VOCAB, block }], prompt: 0, runs,
      colour: "surprise", colour_range: [], search: "", position: null, _live: true, _opening: [], _version: 0,
      ...traits,
    },
    ({ what, chunk, block: b }) => {
      const part = [(b as number) * block, ((b as number) + 1) * block] as const;
      if (what === "tokens") return jsonTile(chunkOf(WORDS, chunk as number));
      if (what === "numbers") {
        const rows = (runs.length > 1 ? [...FIRST, ...SECOND, ...BETWEEN] : FIRST).map((row) => row.slice(...part));
        return tileOf(Float32Array.from(rows.flat()), [rows.length, rows[0]!.length]);
      }
      const cut = ({ tokens, ids, p }: ReturnType<typeof TOP>) => ({ tokens: tokens.slice(...part), ids: ids.slice(...part), p: p.slice(...part) }); // prettier-ignore
      return jsonTile(runs.map((_, run) => cut(TOP(run))));
    },
  ); // prettier-ignore
}

const background = (token: HTMLElement) => getComputedStyle(token).backgroundColor;
const cells = (row: HTMLElement) => [...row.children].map((cell) => cell.textContent);

test.each([16, 2])("a token has the colour of the prediction before it, in blocks of %d", async (block) => {
  const shown = await show(topTokens, model(["model"], {}, block));
  await expect.poll(shown.tokens).toEqual([...WORDS, "▸next"]);
  for (const [i, bits] of FIRST[0]!.slice(0, 4).entries())
    await expect.poll(() => background(shown.token(i + 1))).toBe(rgb("light", bits / Math.log2(VOCAB)));
  expect(shown.token(0).className).toContain("iw-missing");
  expect(shown.token(5).className).toContain("iw-missing"); // nothing came
});

test("the prediction after the last token is shown first, another where one points, and is kept by a click", async () => {
  const fake = model(["model"]);
  const shown = await show(topTokens, fake);
  await expect
    .poll(() => shown.all("tbody tr").map(cells))
    .toEqual([
      ["0", "␣a04", "20.00 %"],
      ["1", "␣end", "25.00 %"],
    ]);
  expect(shown.text(".iw-status")).toContain("after ␣mats4nothing came");
  await userEvent.hover(shown.token(2));
  await expect
    .poll(() => shown.text(".iw-status"))
    .toContain("after ␣cat1came ␣sat2probability 0.2500, surprise 2.0000 bits, rank 1, entropy 2.0000 bits");
  const came = () => shown.all("tbody .iw-came").map(cells);
  await expect.poll(came).toEqual([["1", "␣sat", "25.00 %"]]);
  expect(fake.saved).toEqual({});
  await userEvent.click(shown.token(2));
  await expect.poll(() => fake.saved.position).toBe(1); // the position that predicts
  await userEvent.unhover(shown.token(2));
  expect(came()).toEqual([["1", "␣sat", "25.00 %"]]);
  shown.flow().focus();
  await userEvent.keyboard("{ArrowRight}");
  await expect.poll(() => fake.saved.position).toBe(2);
  await expect.poll(came).toEqual([["9", "␣on", "6.25 %"]]); // added, for it was not expected
});

test("keys go from what comes next to the first token, and no further", async () => {
  const fake = model(["model"]);
  const shown = await show(topTokens, fake);
  await expect.poll(() => shown.token(5).className).toContain("iw-active");
  shown.flow().focus();
  await userEvent.keyboard("{ArrowLeft}");
  await expect.poll(() => fake.saved.position).toBe(3);
  await userEvent.keyboard("{Home}{ArrowLeft}{ArrowLeft}{ArrowLeft}{ArrowLeft}");
  await expect.poll(() => fake.saved.position).toBe(0);
  await userEvent.keyboard("{Escape}");
  await expect.poll(() => fake.saved.position).toBe(null);
});

test("of a long text only the blocks in view are asked for", async () => {
  const size = 5000;
  const fake = model(["model"], { prompts: [{ name: "long", size, vocab: VOCAB, block: 16 }], position: 0 });
  fake.tile = ({ what, chunk, block }) => {
    const here = Math.min(16, size - 16 * (block as number));
    if (what === "tokens")
      return jsonTile(
        chunkOf(
          Array.from({ length: size }, (_, i) => `␣w${i}`),
          chunk as number,
        ),
      );
    if (what === "numbers") return tileOf(new Float32Array(4 * here).fill((block as number) % 5), [4, here]);
    return jsonTile([{ tokens: Array(here).fill(["␣a"]), ids: Array(here).fill([9]), p: Array(here).fill([0.5]) }]);
  };
  const shown = await show(topTokens, fake);
  await expect.poll(() => background(shown.token(20))).toBe(rgb("light", 1 / 4));
  shown.flow().scrollTop = shown.flow().scrollHeight / 2;
  const middle = await expect.poll(() => Number(shown.one(".iw-flow [data-at]").dataset.at)).toBeGreaterThan(1000).then(() => Number(shown.one(".iw-flow [data-at]").dataset.at)); // prettier-ignore
  const block = Math.floor((middle + 40) / 16);
  await expect.poll(() => background(shown.token(16 * block + 1))).toBe(rgb("light", (block % 5) / 4));
  const asked = fake.asked.flat().filter((key) => key.includes("numbers"));
  expect(new Set(asked).size).toBeLessThan(150); // of 313
});

test("two runs stand side by side, with what is between them", async () => {
  const fake = model(["clean", "ablated"], { position: 0 });
  const shown = await show(topTokens, fake);
  await expect.poll(() => shown.all("table").length).toBe(2);
  expect(shown.all("thead tr").map((row) => cells(row)[1])).toEqual(["clean", "ablated"]);
  await expect.poll(() => shown.all("tbody tr:first-child").map((row) => cells(row)[1])).toEqual(["␣a00", "␣a10"]);
  await expect.poll(() => shown.text(".iw-status")).toContain("clean: probability 0.5000, surprise 1.0000 bits");
  expect(shown.text(".iw-status")).toContain("ablated: probability 0.2500, surprise 2.0000 bits");
  expect(shown.text(".iw-status")).toContain("KL 0.5000 bits");
  await userEvent.selectOptions(shown.one("select"), "KL");
  await expect.poll(() => fake.saved.colour).toBe("kl");
  await expect.poll(() => background(shown.token(3))).toBe(rgb("light", 1));
  await expect.poll(() => background(shown.token(1))).toBe(rgb("light", 0.25));
  await userEvent.selectOptions(shown.one("select"), "change of surprise");
  await expect.poll(() => background(shown.token(3))).toBe(rgb("diverging-light", 0));
  await expect.poll(() => background(shown.token(1))).toBe(rgb("diverging-light", (1 + 1 / 3) / 2));
});

test("one run has no colours that need two, and rank has a colour for the first", async () => {
  const fake = model(["model"], { colour: "rank" });
  const shown = await show(topTokens, fake);
  expect(shown.all("select option").map((option) => option.textContent)).toEqual(["surprise", "rank", "entropy"]);
  await expect.poll(() => background(shown.token(1))).toBe(rgb("light", 0));
  const at = Math.log(9 / 0.5) / Math.log((VOCAB - 1) / 0.5);
  await expect.poll(() => background(shown.token(3))).toBe(rgb("light", at));
});

test("in the dark and in little room", async () => {
  document.documentElement.setAttribute("style", "--jp-ui-font-color1: #eee");
  const shown = await show(topTokens, model(["clean", "ablated"]), 360);
  await expect.poll(() => background(shown.token(3))).toBe(rgb("dark", 1));
  const right = shown.el.getBoundingClientRect().right;
  for (const element of shown.all("canvas, button, input, select, .iw-flow span, table"))
    expect(element.getBoundingClientRect().right, element.outerHTML.slice(0, 80)).toBeLessThanOrEqual(right + 1);
});

test("a saved copy shows what it holds; an error of Python is shown in words", async () => {
  const saved = model(["model"], { _live: false });
  saved.open([{ what: "tokens", prompt: 0, chunk: 0 }, { what: "numbers", prompt: 0, block: 0 }, { what: "top", prompt: 0, block: 0 }]); // prettier-ignore
  const shown = await show(topTokens, saved);
  expect(shown.all("tbody tr").length).toBe(2);
  expect(saved.asked).toEqual([]);
  const broken = model(["model"]);
  const answer = broken.tile;
  broken.tile = (key) => {
    if (key.what === "numbers") throw new Error("InputError: no logits");
    return answer(key);
  };
  const other = await show(topTokens, broken);
  await expect.poll(() => other.text("[role=alert]")).toBe("InputError: no logits");
});
