// Tiles: what is asked for, when, and what becomes of the answers.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Tiles } from "../tiles.ts";
import { type Answered, deflated, Fake, jsonTile, type Key, tileOf } from "./fake.ts";

const numbers = (...values: number[]) => tileOf(Float32Array.from(values), [values.length]);
const keys = (count: number, from = 0) => Array.from({ length: count }, (_, i) => JSON.stringify({ n: from + i }));

let end: AbortController;
let model: Fake;
let tiles: Tiles;

beforeEach(() => {
  end = new AbortController();
  model = new Fake({}, (key: Key) => {
    const n = key.n as number;
    if (n < 0) throw new Error(`no tile ${n}`);
    return numbers(n, n + 0.5);
  });
  tiles = new Tiles(model, end.signal);
});

afterEach(() => {
  end.abort();
  vi.useRealTimers();
});

const here = (key: string) => expect.poll(() => tiles.peek(key));

describe("other data", () => {
  const [one, two, three] = keys(3) as [string, string, string];
  const answer = (version: number, key: string, value: number) => {
    const { meta, bytes } = numbers(value);
    model.emit("msg:custom", { tiles: [{ key, ...meta }], version }, [new DataView(bytes.buffer)]);
  };

  beforeEach(() => {
    end.abort();
    end = new AbortController();
    model.state._version = 0;
    tiles = new Tiles(model, end.signal);
  });

  test("what is wanted is asked for again, and stays until the new is here", async () => {
    tiles.want({}, [one, two]);
    await here(two).toBeDefined();
    model.answering = false;
    model.open([]);
    model.change("_version", 1);
    await expect.poll(() => model.asked.at(-1)).toEqual([one, two]);
    expect(model.asked.length).toBe(2);
    expect([...tiles.peek(one)!.data]).toEqual([0, 0.5]);
    answer(1, one, 7);
    await expect.poll(() => [...tiles.peek(one)!.data]).toEqual([7]);
    expect([...tiles.peek(two)!.data]).toEqual([1, 1.5]);
  });

  test("the tiles that come along need not be asked for", async () => {
    tiles.want({}, [one]);
    await here(one).toBeDefined();
    model.tile = () => numbers(9);
    model.open([JSON.parse(one) as object]);
    model.change("_version", 1);
    await expect.poll(() => [...tiles.peek(one)!.data]).toEqual([9]);
    expect(model.asked).toEqual([[one]]);
  });

  test("an answer of the data before is not taken for one of the data now", async () => {
    model.answering = false;
    tiles.want({}, [three]);
    await expect.poll(() => model.asked).toEqual([[three]]);
    model.open([]);
    model.change("_version", 1);
    answer(0, three, 5);
    await expect.poll(() => model.asked.length).toBeGreaterThan(1);
    expect(tiles.peek(three)).toBeUndefined();
    answer(1, three, 6);
    await expect.poll(() => [...(tiles.peek(three)?.data ?? [])]).toEqual([6]);
  });
});

describe("asking", () => {
  test("eight keys a message, one message under way, in the order of importance", async () => {
    const wanted = keys(20);
    model.answering = false;
    tiles.want({}, wanted);
    await expect.poll(() => model.asked).toEqual([wanted.slice(0, 8)]);
    tiles.want({}, keys(3, 100));
    await Promise.resolve();
    expect(model.asked.length).toBe(1);
    model.answering = true;
    model.answer(model.asked[0]!);
    await here(wanted[19]!).toBeDefined();
    await here(keys(1, 102)[0]!).toBeDefined();
    expect(Math.max(...model.asked.map((message) => message.length))).toBe(8);
    expect(model.asked.flat()).toEqual([...wanted, ...keys(3, 100)]);
  });

  test("no key is asked for twice, whoever wants it", async () => {
    tiles.want({}, keys(3));
    tiles.want({}, keys(4));
    await here(keys(4)[3]!).toBeDefined();
    tiles.want({}, keys(4));
    tiles.want({}, keys(5));
    await here(keys(5)[4]!).toBeDefined();
    expect(model.asked.flat().sort()).toEqual(keys(5));
  });

  test("what is no longer wanted when its turn comes is not asked for", async () => {
    model.answering = false;
    const owner = {};
    tiles.want(owner, keys(20));
    await expect.poll(() => model.asked.length).toBe(1);
    tiles.want(owner, keys(2, 50)); // scrolled on
    model.answering = true;
    model.answer(model.asked[0]!);
    await here(keys(1, 51)[0]!).toBeDefined();
    expect(model.asked).toEqual([keys(8), keys(2, 50)]);
    tiles.want(owner, []);
    tiles.want(owner, keys(1));
    await Promise.resolve();
    expect(model.asked.length).toBe(2); // here already
  });

  test("an error is an answer: kept, shown, not asked for again", async () => {
    const [bad, good] = [JSON.stringify({ n: -1 }), JSON.stringify({ n: 1 })];
    tiles.want({}, [bad, good]);
    await expect.poll(() => tiles.error(bad)?.message).toBe("no tile -1");
    expect(tiles.peek(bad)).toBeUndefined();
    expect([...tiles.peek(good)!.data]).toEqual([1, 1.5]);
    tiles.want({}, [bad]);
    await Promise.resolve();
    expect(model.asked.length).toBe(1);
  });

  test("a kernel that is gone throws, and nothing else breaks", async () => {
    model.send = () => {
      throw new Error("comm is closed");
    };
    tiles.want({}, keys(1));
    tiles.hello();
    await Promise.resolve();
    expect(tiles.peek(keys(1)[0]!)).toBeUndefined();
  });
});

describe("answers", () => {
  test("numbers, deflated numbers and text arrive as they were sent", async () => {
    const values = Float32Array.from({ length: 500 }, (_, i) => i / 7);
    const packed: Record<string, Answered> = {
      plain: tileOf(values, [20, 25], { high: 0.25, octaves: 17, step: [4, 2], sampled: [1, 4] }),
      zip: await deflated(tileOf(values, [500])),
      bytes: tileOf(Uint8Array.of(0, 128, 255), [3]),
      signed: tileOf(Int8Array.of(-128, -1, 127), [3]),
      text: jsonTile({ text: ["</script>", "␣é", "日本"] }),
      zippedText: await deflated(jsonTile(["a"])),
    };
    model.tile = (key: Key) => packed[key.what]!;
    const names = Object.keys(packed).map((what) => JSON.stringify({ what }));
    tiles.want({}, names);
    await here(names[5]!).toBeDefined();
    const [plain, zip, bytes, signed, text, zippedText] = names.map((name) => tiles.peek(name)!);
    expect(plain).toMatchObject({ shape: [20, 25], high: 0.25, octaves: 17, step: [4, 2], sampled: [1, 4] });
    expect(plain!.data).toEqual(values);
    expect(zip!.data).toEqual(values);
    expect(bytes!.data).toEqual(Uint8Array.of(0, 128, 255));
    expect(signed!.data).toEqual(Int8Array.of(-128, -1, 127));
    expect(text!.json).toEqual({ text: ["</script>", "␣é", "日本"] });
    expect(zippedText!.json).toEqual(["a"]);
  });

  test("an answer to another view of this model is kept, and disturbs nothing", async () => {
    model.answering = false;
    tiles.want({}, keys(1));
    await expect.poll(() => model.asked.length).toBe(1);
    model.answer(keys(2, 7));
    await here(keys(1, 8)[0]!).toBeDefined();
    expect(model.asked.length).toBe(1); // our own is still under way
    model.answer(keys(1));
    await here(keys(1)[0]!).toBeDefined();
    tiles.want({}, keys(2, 7));
    await Promise.resolve();
    expect(model.asked.length).toBe(1);
  });

  test.each([
    ["too few bytes", { meta: { kind: "f4", shape: [2] }, bytes: Uint8Array.of(1, 2, 3) }],
    ["not deflated", { meta: { kind: "f4", shape: [2], zip: true }, bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }],
    ["not JSON", { meta: { kind: "u1", shape: [1], json: true }, bytes: Uint8Array.of(123) }],
  ])("%s: an unreadable answer is an error, and what follows is asked for", async (_, broken) => {
    const [bad, good] = [JSON.stringify({ n: "bad" }), JSON.stringify({ n: 2 })];
    model.tile = ({ n }: Key) => (n === "bad" ? broken : numbers(n));
    tiles.want({}, [bad]);
    await expect.poll(() => tiles.error(bad)).toBeInstanceOf(Error);
    tiles.want({}, [good]);
    await here(good).toBeDefined();
  });

  test("messages about other things are not ours", () => {
    model.emit("msg:custom", { method: "custom" }, []);
    model.emit("msg:custom", {}, []);
    expect(tiles.silent).toBe(false);
  });

  test("tiles that came with the view are there at once; one that cannot be read is asked for", async () => {
    model.open([{ n: 3 }, { n: 4 }]);
    (model.state._opening as { meta: object }[])[1]!.meta = { kind: "f4", shape: [2], zip: true };
    await tiles.open(model.get("_opening"));
    expect([...tiles.peek(keys(1, 3)[0]!)!.data]).toEqual([3, 3.5]);
    tiles.want({}, keys(2, 3));
    await here(keys(1, 4)[0]!).toBeDefined();
    expect(model.asked).toEqual([keys(1, 4)]);
  });

  test("whoever listens is told, until they stop listening", async () => {
    const told = vi.fn();
    const stop = tiles.subscribe(told);
    tiles.want({}, keys(1));
    await expect.poll(() => told.mock.calls.length).toBe(1);
    expect(told).toHaveBeenCalledWith(new Set(keys(1)));
    stop();
    tiles.want({}, keys(2));
    await here(keys(2)[1]!).toBeDefined();
    expect(told).toHaveBeenCalledTimes(1);
  });
});

test("the least recently wanted go when there are too many bytes; never what is on screen", async () => {
  const size = 4e6; // floats: 16 MB a tile, three fit
  model.tile = () => tileOf(new Float32Array(size), [size]);
  const owner = {};
  const want = async (n: number) => {
    tiles.want(owner, keys(1, n));
    await here(keys(1, n)[0]!).toBeDefined();
  };
  for (const n of [0, 1, 2]) await want(n);
  await want(0); // used again: 1 is the oldest now
  await want(3);
  const left = () => [0, 1, 2, 3].filter((n) => tiles.peek(keys(1, n)[0]!));
  expect(left()).toEqual([0, 2, 3]);
  tiles.want(owner, keys(5, 10));
  await here(keys(1, 14)[0]!).toBeDefined();
  for (const key of keys(5, 10)) expect(tiles.peek(key)).toBeDefined();
  expect(left()).toEqual([]);
});

describe("silence", () => {
  test("four seconds without an answer are told once, and an answer ends it", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    model.answering = false;
    const told = vi.fn();
    tiles.subscribe(told);
    tiles.hello();
    expect(model.asked).toEqual([[]]);
    vi.advanceTimersByTime(3999);
    expect(tiles.silent).toBe(false);
    vi.advanceTimersByTime(2);
    expect(tiles.silent).toBe(true);
    expect(told).toHaveBeenCalledTimes(1);
    model.answer([]);
    await expect.poll(() => tiles.silent).toBe(false);
  });

  test("a request that was lost is made again once something is wanted", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    model.answering = false;
    tiles.want({}, keys(1));
    await expect.poll(() => model.asked.length).toBe(1);
    vi.advanceTimersByTime(4001);
    tiles.want({}, keys(1));
    await expect.poll(() => model.asked.length).toBe(2);
    expect(model.asked[1]).toEqual(keys(1));
  });

  test("an answer in time is no silence", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    model.answering = false;
    tiles.hello();
    tiles.want({}, keys(1));
    await expect.poll(() => model.asked.length).toBe(2);
    model.answer([]);
    model.answer(keys(1));
    await here(keys(1)[0]!).toBeDefined();
    vi.advanceTimersByTime(60_000);
    expect(tiles.silent).toBe(false);
  });

  test("the end of the view ends its waiting and its listening", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    model.answering = false;
    const told = vi.fn();
    tiles.subscribe(told);
    tiles.hello();
    end.abort();
    expect(vi.getTimerCount()).toBe(0);
    expect(model.listening).toBe(0);
    expect(told).not.toHaveBeenCalled();
  });
});
