// A page without Python: the same view over a model that nobody runs.
import { afterEach, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { link, mount } from "../host.ts";
import attention from "../views/attention.tsx";
import { colour, model, pixel, telling } from "./attention.ts";

const WORDS = ["the", "␣cat", "␣sat"];
const places: HTMLElement[] = [];

beforeEach(() => page.viewport(1200, 1000));
afterEach(() => places.splice(0).forEach((place) => place.remove()));

/** As page.py writes it: the traits, and the tiles in base64. */
function stored() {
  const { state } = model([{ tokens: WORDS }], { _live: false, colour_range: [0, 1] });
  const opening = (state._opening as { key: string; meta: object; data: DataView }[]).map(({ key, meta, data }) => {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return { key, meta, data: btoa(String.fromCharCode(...bytes)) };
  });
  return JSON.parse(JSON.stringify({ ...state, _opening: opening })) as Parameters<typeof mount>[2];
}

async function place() {
  const el = document.createElement("div");
  el.style.width = "1100px";
  document.body.append(el);
  places.push(el);
  const standing = await mount(attention, el, stored());
  return { el, standing, canvas: () => el.querySelector<HTMLCanvasElement>(".iw-pixels canvas")! };
}

test("what was stored is drawn, and what is clicked is set", async () => {
  const { el, standing, canvas } = await place();
  await expect.poll(() => pixel(canvas(), 2, 1, 3)).toEqual(colour("light", telling(0, 0, 2, 1)));
  await userEvent.click(el.querySelector("button[aria-label^='layer 1 head 2']")!);
  expect([standing.get("layer"), standing.get("head")]).toEqual([1, 2]);
});

test("tiles beyond the first megabyte are there when they are asked for", async () => {
  const state = stored();
  const head = state._opening.find(({ key }) => key.includes('"what":"rows"'))!;
  state._opening.splice(state._opening.indexOf(head), 1);
  const padding = "A".repeat(1e6);
  state._opening.push({ key: "large", meta: { kind: "u1", shape: [750000] }, data: padding }, head);
  const el = document.createElement("div");
  el.style.width = "1100px";
  document.body.append(el);
  places.push(el);
  const standing = await mount(attention, el, state);
  expect(standing.get<{ key: string }[]>("_opening").map(({ key }) => key)).not.toContain(head.key);
  const canvas = () => el.querySelector<HTMLCanvasElement>(".iw-pixels canvas")!;
  await expect.poll(() => pixel(canvas(), 2, 1, 3)).toEqual(colour("light", telling(0, 0, 2, 1)));
});

test("what was not stored is said in words", async () => {
  const { el } = await place();
  await userEvent.click(el.querySelector("button[aria-label^='layer 1 head 2']")!);
  const alerts = () => [...el.querySelectorAll("[role=alert]")].map((alert) => alert.textContent);
  await expect.poll(alerts).toEqual(["This copy holds no finer picture of this head."]);
  await userEvent.selectOptions(el.querySelector(".iw-heads select")!, "mine");
  await expect.poll(alerts).toContain("This needs a running kernel.");
});

test("two views on a page do not disturb each other", async () => {
  const [one, other] = [await place(), await place()];
  one.standing.set("head", 1);
  await expect.poll(() => one.el.querySelector(".iw-large strong")!.textContent).toBe("Layer 0, head 1");
  expect(other.standing.get("head")).toBe(0);
  expect(other.el.querySelector(".iw-large strong")!.textContent).toBe("Layer 0, head 0");
});

test("a listener that was taken away is not called", async () => {
  const { standing } = await place();
  let calls = 0;
  const listener = () => calls++;
  standing.on("change:layer", listener);
  standing.set("layer", 1);
  standing.off("change:layer", listener);
  standing.set("layer", 0);
  expect(calls).toBe(1);
});

test("linked views follow each other, also under other names", async () => {
  const [one, other] = [await place(), await place()];
  link([one.standing, other.standing], [[[0, "layer"], [1, "layer"]], [[0, "query"], [1, "key"]]]); // prettier-ignore
  await userEvent.click(one.el.querySelector("button[aria-label^='layer 1 head 2']")!);
  expect([other.standing.get("layer"), other.standing.get("head")]).toEqual([1, 0]);
  await expect.poll(() => other.el.querySelector(".iw-large strong")!.textContent).toBe("Layer 1, head 0");
  other.standing.set("key", 2);
  expect(one.standing.get("query")).toBe(2);
});

test("a feature is shared by views of its layer only", async () => {
  const [one, same, other] = [await place(), await place(), await place()];
  for (const [at, layer] of [[one, 4], [same, 4], [other, 5]] as const) at.standing.set("feature_layer", layer); // prettier-ignore
  const models = [one.standing, same.standing, other.standing];
  link(models, [[[0, "feature"], [1, "feature"], [2, "feature"]]]); // prettier-ignore
  one.standing.set("feature", 31);
  expect([same.standing.get("feature"), other.standing.get("feature")]).toEqual([31, undefined]);
});

test("Ctrl+Z takes back what was clicked, Ctrl+Shift+Z makes it again, and a text field keeps its own", async () => {
  const { el, standing } = await place();
  const at = () => [standing.get("layer"), standing.get("head")];
  const head = (name: string) => el.querySelector<HTMLElement>(`button[aria-label^='${name}']`)!;
  head("layer 1 head 2").click(); // without the style sheet, heads lie on each other
  await expect.poll(at).toEqual([1, 2]);
  head("layer 0 head 1").focus();
  head("layer 0 head 1").click();
  await expect.poll(at).toEqual([0, 1]);
  await userEvent.keyboard("{Control>}z{/Control}");
  expect(at()).toEqual([1, 2]);
  await userEvent.keyboard("{Control>}z{/Control}");
  expect(at()).toEqual([0, 0]);
  await userEvent.keyboard("{Control>}z{/Control}");
  expect(at()).toEqual([0, 0]);
  await userEvent.keyboard("{Control>}{Shift>}z{/Shift}{/Control}");
  expect(at()).toEqual([1, 2]);
  await userEvent.click(el.querySelector("input[type=search]")!);
  await userEvent.keyboard("{Control>}z{/Control}");
  expect(at()).toEqual([1, 2]);
});
