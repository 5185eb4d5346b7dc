// A prompt to write on: what is written reaches Python, what Python says is drawn.
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import prompt from "../views/prompt.tsx";
import { styled } from "./attention.ts";
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";

const TOKENS = ["<s>", "␣the", "␣<img src=x onerror=alert(1)>", "␣sat"];
const SURPRISE = [NaN, 1.5, 9.25, 3];
const ends: (() => void)[] = [];

beforeAll(styled);
beforeEach(() => page.viewport(1200, 900));
afterEach(() => ends.splice(0).forEach((end) => end()));

function model(traits: object = {}) {
  const outcome = (position: number) => ({
    how: "nothing",
    position,
    tokens: ["␣on", "<b>bold</b>"],
    before: [0.5, 0.25],
    after: [0.125, 0.5],
    kl: 0.75,
  });
  const fake = new Fake(
    {
      title: "Prompt", text: "the cat sat", chips: [], position: null, size: 4, context: 128, layers: 2, heads: 3,
      error: "", _live: true, _opening: [], _version: 0, ...traits,
    },
    ({ what, position }: Key) => {
      if (what === "tokens") return jsonTile({ text: TOKENS, ids: [1, 2, 3, 4], special: [0] });
      if (what === "values") return tileOf(Float32Array.from(SURPRISE), [1, 4]);
      return jsonTile(outcome(position as number));
    },
  ); // prettier-ignore
  return fake;
}

async function show(fake: Fake, width = 1000) {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const end = await prompt.render({ model: fake, el });
  ends.push(() => {
    end();
    el.remove();
  });
  const text = () => el.textContent.replace(/\s+/g, " ");
  await expect.poll(text).toContain("␣sat");
  return { el, text, one: <E extends HTMLElement>(selector: string) => el.querySelector<E>(selector)! };
}

test("tokens are text, with what the model expects after the last", async () => {
  const { el, text } = await show(model());
  expect(el.querySelectorAll("img").length).toBe(0);
  expect(text()).toContain("␣<img src=x onerror=alert(1)>");
  await expect.poll(text).toContain("The token after position 3");
  expect(text()).toContain("␣on50.0 %<b>bold</b>25.0 %");
  expect(text()).toContain("4 tokens of 128");
  expect(text()).toContain("surprise 3.0000 bits");
});

test("what is written reaches Python once the keys rest, and the text stays as written", async () => {
  const fake = model();
  const { one } = await show(fake);
  const area = one<HTMLTextAreaElement>("textarea");
  await userEvent.click(area);
  await userEvent.keyboard("!?");
  await expect.poll(() => fake.saved.text).toBe("the cat sat!?");
  fake.change("text", "the cat sat!?");
  expect(area.value).toBe("the cat sat!?");
  area.blur();
  fake.change("text", "set in Python");
  await expect.poll(() => area.value).toBe("set in Python");
});

test.each([5, 3])("a prompt of another length, %i, waits for its numbers", async (size) => {
  const fake = model();
  const { text } = await show(fake);
  fake.change("size", size); // as it comes from Python: before the version, and the tiles of the new text
  await expect.poll(text).toContain(`${size} tokens of 128`);
  expect(text()).not.toContain("failed");
  expect(text()).toContain("Click a token");
});

test("a token is selected, and asked for", async () => {
  const fake = model();
  const { el, text } = await show(fake);
  const token = [...el.querySelectorAll<HTMLElement>("span")].find((span) => span.textContent === "␣the")!;
  await userEvent.click(token);
  await expect.poll(() => fake.saved.position).toBe(1);
  await expect.poll(text).toContain("The token after position 1");
  expect(text()).toContain("surprise 1.5000 bits");
});

test("interventions are written down, turned off and removed", async () => {
  const fake = model();
  const { el, one } = await show(fake);
  const select = (label: string) =>
    [...el.querySelectorAll("label")]
      .find((each) => each.textContent.trim().startsWith(label))!
      .querySelector("select")!;
  await userEvent.selectOptions(select("layer"), "1");
  await userEvent.selectOptions(select("head"), "2");
  await userEvent.selectOptions(select("to"), "its mean");
  await userEvent.click([...el.querySelectorAll("button")].find(({ textContent }) => textContent === "add")!);
  const spec = { kind: "mean", site: "z", layer: 1, head: 2, pos: null };
  await expect.poll(() => fake.saved.chips).toEqual([{ label: "…", on: true, spec }]);
  fake.change("chips", [{ label: "Ablate: <i>", on: true, spec }]);
  await expect.poll(() => one(".iw-chip").textContent.trim()).toContain("Ablate: <i>");
  await userEvent.click(one(".iw-chip input"));
  await expect.poll(() => (fake.saved.chips as { on: boolean }[])[0]!.on).toBe(false);
  await userEvent.click(one("[aria-label='remove Ablate: <i>']"));
  await expect.poll(() => fake.saved.chips).toEqual([]);
});

test("with interventions, both distributions stand side by side", async () => {
  const { text } = await show(model({ chips: [{ label: "Ablate", on: true, spec: { kind: "zero" } }] }));
  await expect.poll(text).toContain("␣on50 %13 %−37.5");
  expect(text()).toContain("= 0.7500 nats");
});

test("why a text is not read is said", async () => {
  const { one } = await show(model({ error: "Prompt 0 has 900 tokens <b>" }));
  expect(one("[role=alert]").textContent).toBe("Prompt 0 has 900 tokens <b>");
});

test("a saved page cannot be written on, and says so; a narrow one fits", async () => {
  const { el, text, one } = await show(model({ _live: false, chips: [{ label: "Ablate", on: true, spec: {} }] }), 380);
  expect(one<HTMLTextAreaElement>("textarea").readOnly).toBe(true);
  expect([...el.querySelectorAll("button")].map(({ textContent }) => textContent)).not.toContain("add");
  expect(text()).toContain("saved copy");
  expect(el.scrollWidth).toBeLessThanOrEqual(380);
});

test("other data under the same keys are drawn", async () => {
  const fake = model();
  const { text } = await show(fake);
  const before = fake.tile;
  fake.tile = (key) => (key.what === "tokens" ? jsonTile({ text: ["a", "b"], ids: null, special: [] }) : key.what === "values" ? tileOf(Float32Array.from([NaN, 2]), [1, 2]) : before(key)); // prettier-ignore
  fake.open([{ what: "tokens", prompt: 0, chunk: 0 }]);
  fake.change("size", 2);
  fake.change("_version", 1);
  await expect.poll(text).not.toContain("␣sat");
  await expect.poll(text).toContain("2 tokens of 128");
  await expect.poll(text).toContain("surprise 2.0000 bits");
});
