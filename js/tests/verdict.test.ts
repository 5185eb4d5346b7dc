// A verdict in a notebook: what was found, hints one by one, the solution, and where the learner is.
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import verdict from "../views/verdict.tsx";
import { styled } from "./attention.ts";
import { Fake } from "./fake.ts";

const HOSTILE = "<img src=x onerror=alert(1)></script>";
const ends: (() => void)[] = [];

beforeAll(styled);
beforeEach(() => page.viewport(1200, 900));
afterEach(() => ends.splice(0).forEach((end) => end()));

const FOUND = {
  name: "heads.share",
  status: "wrong",
  mark: "✗",
  said: "Your columns sum to one.",
  misconception: "softmax over the queries",
  advice: "Use `axis=-1`.\nThen look again.",
  frames: "",
  example: [
    ["input", "[[1, 2]]"],
    ["got", HOSTILE],
    ["expected", "[[0.33, 0.67]]"],
  ],
  seed: 17,
};
const MODULE = {
  title: "Heads",
  exercises: [
    { name: "heads.one", title: "One", state: "passed" },
    { name: "heads.share", title: "Share", state: "tried" },
    { name: "heads.three", title: "Three", state: "check again" },
  ],
};

/** A model whose Python opens hints and the solution when it is asked to. */
class Course extends Fake {
  sent: Record<string, unknown>[] = [];
  override send(content: Record<string, unknown>) {
    if (content.tiles) return;
    this.sent.push(content);
    if (content.hint) this.change("hints", [...this.get<string[]>("hints"), `hint ${this.sent.length}`]);
    if (content.solution) this.change("solution", { code: "x / x.sum(-1)", why: "Each row is `one`." });
  }
}

const model = (found: object = {}, traits: object = {}) =>
  new Course({
    title: "Share out", verdict: { ...FOUND, ...found }, module: MODULE, hints: [], solution: {}, form: null,
    answer: null, confidence: null, _submitted: 0, _live: true, _opening: [], _version: 0, ...traits,
  }); // prettier-ignore

async function show(fake: Fake, width = 900) {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const end = await verdict.render({ model: fake, el });
  ends.push(() => {
    end();
    el.remove();
  });
  const text = () => el.textContent.replace(/\s+/g, " ");
  const button = (name: string) => [...el.querySelectorAll("button")].find((each) => each.textContent.includes(name));
  return { el, text, button };
}

test("a wrong answer names the misconception, and shows the counter-example as text", async () => {
  const { el, text } = await show(model());
  expect(el.querySelector("[role=status]")!.textContent).toContain("✗ wrong");
  expect(el.querySelector(".iw-misconception")!.textContent).toBe("softmax over the queries");
  expect([...el.querySelectorAll(".iw-example tr")].map((row) => row.textContent)).toEqual([
    "input[[1, 2]]",
    `got${HOSTILE}`,
    "expected[[0.33, 0.67]]",
  ]);
  expect(el.querySelectorAll("img, script").length).toBe(0);
  expect([...el.querySelectorAll("code")].map((code) => code.textContent)).toEqual(["axis=-1"]);
  expect(text()).toContain("check(…, seed=17)");
});

test("hints come one by one, by mouse and by keyboard, then the solution", async () => {
  const fake = model();
  const { el, text, button } = await show(fake);
  await userEvent.click(button("hint (1 of 3)")!);
  await expect.poll(text).toContain("Hint 1 hint 1");
  button("next hint (2 of 3)")!.focus();
  await userEvent.keyboard("{Enter}");
  await expect.poll(text).toContain("Hint 2 hint 2");
  await userEvent.click(button("next hint (3 of 3)")!);
  await expect.poll(() => button("hint")).toBe(undefined);
  expect(text()).not.toContain("x / x.sum(-1)");
  await userEvent.click(button("solution")!);
  await expect.poll(text).toContain("Each row is one.");
  expect(el.querySelector(".iw-hint pre")!.textContent).toBe("x / x.sum(-1)");
  expect(button("solution")).toBe(undefined);
  expect(fake.sent).toEqual([{ hint: true }, { hint: true }, { hint: true }, { solution: true }]);
});

test("who passed needs no hint, and may read the solution", async () => {
  const passed = { status: "passed", mark: "✓", misconception: "", advice: "", example: [], said: "20 of 20." };
  const { el, button } = await show(model(passed));
  expect(button("hint")).toBe(undefined);
  expect(button("solution")).not.toBe(undefined);
  expect(el.querySelector(".iw-example")).toBe(null);
  expect(el.querySelector(".iw-is-passed")).not.toBe(null);
});

test("an error shows the learner's own lines", async () => {
  const { el } = await show(model({ status: "error", frames: "line 3, in mine: 1 / 0", example: [] }));
  expect(el.querySelector("pre")!.textContent).toBe("line 3, in mine: 1 / 0");
});

test("the module's exercises are there, each with its state, and the one that is checked", async () => {
  const { el, text } = await show(model());
  const marks = [...el.querySelectorAll("li")];
  expect(marks.map((mark) => mark.getAttribute("aria-label"))).toEqual([
    "One: passed",
    "Share: tried",
    "Three: check again",
  ]);
  expect(marks.map((mark) => mark.getAttribute("aria-current"))).toEqual([null, "step", null]);
  expect(text()).toContain("Heads: 1 of 3 done");
  const filled = marks.map((mark) => getComputedStyle(mark).backgroundColor);
  expect(new Set(filled).size).toBe(3);
});

const CHOICE = { kind: "choice", later: false, options: [["a", "red"], ["b", HOSTILE], ["c", "green"]] }; // prettier-ignore
const NUMBER = { kind: "number", later: true, what: "a number from 0 to 1, right to within 0.15" };
const NOTHING = { status: "not attempted", mark: "○", misconception: "", advice: "", example: [], said: "Which one?" };

/** A model whose Python checks what the form says. */
class Asking extends Course {
  override send(content: Record<string, unknown>) {
    super.send(content);
    if (content.submit && this.answering) this.found();
  }
  found() {
    const right = this.get("answer") === "b";
    const verdict = {
      ...FOUND,
      example: [],
      said: right ? "It is." : "It is not.",
      status: right ? "passed" : "wrong",
    };
    this.change("verdict", { ...verdict, misconception: "" });
    this.change("_submitted", this.get<number>("_submitted") + 1);
  }
}

const asking = (form: object, traits: object = {}) => new Asking({ ...model(NOTHING).state, form, ...traits });

test("one of several statements is chosen, by mouse and by keyboard, and checked with how sure one is", async () => {
  const fake = asking(CHOICE);
  const { el, text, button } = await show(fake);
  expect(text()).not.toContain("Which one?");
  expect(text()).toContain(HOSTILE);
  expect(el.querySelectorAll("img, script").length).toBe(0);
  expect(button("check")!.disabled).toBe(true);
  expect(text()).toContain("first answer, and say how sure you are");
  const radio = (name: string) =>
    [...el.querySelectorAll("label")].find((each) => each.textContent.includes(name))!.querySelector("input")!;
  await userEvent.click(radio("red"));
  expect(fake.saved.answer).toBe("a");
  radio("50 %").focus();
  await userEvent.keyboard("{ArrowRight}{ArrowRight}");
  expect(fake.saved.confidence).toBe(0.7);
  expect(text()).toContain('check("a", confidence=0.7)');
  await userEvent.keyboard("{Enter}");
  await expect.poll(text).toContain("✗ wrong");
  expect(text()).toContain("It is not.");
  radio("red").focus();
  await userEvent.keyboard("{ArrowDown}");
  await userEvent.click(button("check")!);
  await expect.poll(text).toContain("passed");
  expect(button("check")).toBe(undefined);
  expect(radio(HOSTILE).checked).toBe(true);
  expect(radio(HOSTILE).matches(":disabled")).toBe(true);
  expect(fake.sent).toEqual([{ submit: true }, { submit: true }]);
});

test("a prediction is a number, is sent once, and its solution waits until it is written down", async () => {
  const fake = asking(NUMBER);
  fake.answering = false;
  const { el, text, button } = await show(fake);
  expect(text()).toContain("a number from 0 to 1, right to within 0.15");
  expect(button("solution")).toBe(undefined);
  await userEvent.fill(el.querySelector("input[type=number]")!, "0.3");
  await userEvent.click([...el.querySelectorAll("label")].find((each) => each.textContent.includes("60 %"))!);
  await userEvent.click(button("write it down")!);
  await expect.poll(() => button("one moment")?.disabled).toBe(true);
  await userEvent.keyboard("{Enter}");
  expect(fake.sent).toEqual([{ submit: true }]);
  expect(fake.saved).toEqual({ answer: 0.3, confidence: 0.6 });
  fake.change("verdict", { ...FOUND, ...NOTHING, status: "recorded", mark: "✎", said: "You said 0.3." });
  fake.change("_submitted", 1);
  await expect.poll(text).toContain("You said 0.3.");
  expect(el.querySelector("input")).toBe(null);
  expect(button("solution")).not.toBe(undefined);
});

test("a question in a saved copy can be read, and not answered", async () => {
  const { el, text } = await show(asking(CHOICE, { _live: false }));
  expect(text()).toContain("green");
  expect(el.querySelectorAll("button, input:enabled").length).toBe(0);
});

test("a saved copy asks nobody: it keeps what was open, and has no buttons", async () => {
  const { el, text } = await show(model({}, { _live: false, hints: ["look at the axis"] }));
  expect(el.querySelectorAll("button").length).toBe(0);
  expect(text()).toContain("Hint 1 look at the axis");
});

test.each([320, 700])("%d pixels: nothing sticks out", async (width) => {
  const long = { example: [["input", "[".padEnd(400, "1")]], said: "word ".repeat(60), frames: "x".repeat(300) };
  const { el } = await show(model(long, { solution: { code: "y".repeat(300), why: "so" } }), width);
  const right = el.getBoundingClientRect().right;
  for (const each of el.querySelectorAll("p, pre, table, li, button"))
    expect(each.getBoundingClientRect().right, each.className).toBeLessThanOrEqual(right + 1);
});

test.each([320, 700])("%d pixels: a question fits", async (width) => {
  const options = ["a", "b", "c"].map((letter) => [letter, "statement ".repeat(20)]);
  for (const form of [{ ...CHOICE, options }, NUMBER]) {
    const { el } = await show(asking(form, { answer: "b", confidence: 0.7 }), width);
    const right = el.getBoundingClientRect().right;
    for (const each of el.querySelectorAll("label, fieldset, button, small"))
      expect(each.getBoundingClientRect().right, each.textContent).toBeLessThanOrEqual(right + 1);
  }
});
