// A store that is nobody: any number of features, each of which tells its own number.
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";

export const HOSTILE = '<img src=x onerror="window.hurt = 1">';
const COLUMNS = ["index", "density", "max_activation", "peak_token", "top_token", "nearest_cosine", "score", "label", "lists"]; // prettier-ignore

/** The example of a feature with a strength: five tokens, the middle one is its own. */
const example = (feature: number, value: number, context: number) => ({
  tokens: ["the", HOSTILE, `f${feature}`, "sat", "␣on"],
  values: [0, value / 2, value, 0, null],
  position: 2,
  context,
  start: 3,
});

export const record = (feature: number) => ({
  index: feature,
  count: 40 + feature,
  density: 0.01,
  mean: 2.5,
  max: 8,
  histogram: { edges: [1, 2, 4, 8], counts: [30, 0, 10] },
  top_logits: [["cat", 0.5], ["dog", 0.25]],
  bottom_logits: [["owl", -1], ["bee", -0.5]],
  neighbours: [[feature + 5, 0.75]],
  co_firing: [[feature + 9, 0.125]],
  groups: [
    { name: "50–100 %", low: 4, high: 8, count: 10, exact: true },
    { name: "0–50 %", low: 1, high: 2, count: 30, exact: false },
  ],
  top: [example(feature, 8, 0), example(feature, 7, 1)],
}); // prettier-ignore

const weaker = (feature: number) => [
  [example(feature, 6, 2)],
  Array.from({ length: 30 }, (_, i) => example(feature, 1.5, 3 + i)),
];

export interface Written {
  label?: string;
  lists?: string[];
  note?: string;
}

/** A view of it, live; what is `said` of a feature may be changed, and `written` counted up. */
export function model(features: number, traits: object = {}, said: Record<number, Written> = {}): Fake {
  const tile = (key: Key) => {
    const { what, feature, block } = key as Key & { feature: number; block: number };
    if (what === "record") return jsonTile(record(feature));
    if (what === "weaker") return jsonTile(weaker(feature));
    if (what === "said") {
      const { label = null, lists = [], note = "" } = said[feature] ?? {};
      return jsonTile({
        label,
        lists,
        note,
        score: label && 0.75,
        low: label && 0.5,
        high: label && 0.9,
        by: label && "hand",
      });
    }
    if (what === "lists") return jsonTile({ starred: [3] });
    if (what === "names") return jsonTile((key.features as number[]).map((index) => ({ index, label: index === 5 ? HOSTILE : null, peak: `f${index}`, raises: "cat" }))); // prettier-ignore
    if (what === "pair") return jsonTile({ cosine: 0.5, jaccard: null });
    if (what === "rows") {
      if (key.filter === "wrong >") throw new Error("This condition cannot be used");
      const total = key.filter ? 1 : features;
      const places = Array.from({ length: Math.max(0, Math.min(64, total - 64 * block)) }, (_, i) => 64 * block + i);
      const rows = places.map((i) => {
        const index = key.filter ? Number(key.filter) : (key.sort as string).endsWith("desc") ? total - 1 - i : i;
        return [index, 0.01, 8, `f${index}`, "cat", 0.75, null, said[index]?.label ?? null, said[index]?.lists ?? []];
      });
      return jsonTile({ columns: COLUMNS, total, rows });
    }
    if (what === "whole") return jsonTile({ tokens: ["a", "b", "c", "the", HOSTILE, `f${feature}`, "sat", "␣on"], values: key.context === 1 ? null : [0, 4, 0, 0, 2, 8, 0, 0] }); // prettier-ignore
    if (what === "connections")
      return jsonTile({
        reads: [
          { kind: "head", count: 8, chance: 0.09, top: [[0, 2, "", 1.72, 0.12, null]] },
          { kind: "neuron", count: 1024, chance: 0.3, top: [[1, 141, "", -0.743, -0.4, null]] },
          { kind: "token", count: 589, chance: 0.29, top: [[null, 7, "", 0.25, 0.23, HOSTILE]] },
        ],
        writes: [
          { kind: "head", count: 24, chance: 0.09, top: [[2, 3, "v", 1.55, 0.1, null]] },
          { kind: "logit", count: 589, chance: 0.29, top: [[null, 9, "", 0.4, 0.2, "not here"]] },
          { kind: "feature", count: 99, chance: 0.28, top: [[null, 40, "", -0.17, -0.21, null]] },
        ],
        untold: ["Not told: what the neurons of layer 3 read; experts"],
      });
    if (what === "text") return jsonTile({ tokens: (key.text as string).split(" "), strongest: [[5, 9.5, 1], [77, 3, 0]] }); // prettier-ignore
    if (what === "along") return tileOf(Float32Array.from((key.text as string).split(" "), (_, i) => (i === 1 ? 4 : 0)), [1, 3]); // prettier-ignore
    if (what === "at") return jsonTile([[77, 2.5, key.position]]);
    if (what === "outcome")
      return jsonTile({ how: `${key.how} by ${key.strength}`, position: 2, tokens: ["mat", "hat"], before: [0.9, 0.1], after: [0.3, 0.7], kl: 0.5 }); // prettier-ignore
    if (what === "continuation") return jsonTile({ before: ["mat", "."], after: ["hat", "."] });
    if (what === "map") {
      const size = Math.min(65536, features - 65536 * block);
      const data = new Float32Array(3 * size);
      for (let i = 0; i < size; i++) {
        data[i] = i % 10;
        data[size + i] = Math.floor(i / 10) % 10;
        data[2 * size + i] = i % 3 ? -2 : -1;
      }
      return tileOf(data, [3, size]);
    }
    throw new Error("no such tile");
  };
  return new Fake(
    {
      title: "Features", feature: 3, compare: null, example: [], whole: false, filter: "", sort_by: "index", text: "", position: null,
      intervention: "none", strength: 1, map: false, connections: false, layer: null, head: null, neuron: null, written: 0, error: "", _said: [], _live: true, _opening: [], _version: 0,
      facts: { features, tokens: 4000, model: "nobody", dictionary: "", columns: [...COLUMNS, "x", "y"], runs: true }, ...traits,
    },
    tile,
  ); // prettier-ignore
}
