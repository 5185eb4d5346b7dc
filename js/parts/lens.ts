// What a logit lens says, as far as it is here: numbers and tokens by tiles.
import type { ScaleKind } from "../colour.ts";
import { type Asked, useTiles } from "../view.tsx";

export type Measure = "probability" | "entropy" | "kl" | "token_probability" | "token_rank";

export interface Prompt {
  name: string;
  model: string;
  kind: string;
  site: string;
  layers: number[];
  size: number;
  block: number; // positions in a tile
  vocabulary: number;
  kl: boolean;
}

export interface Traits {
  title: string;
  prompts: Prompt[];
  prompt: number;
  compare: number | null;
  layer: number;
  position: number;
  measure: Measure;
  token: string;
  top_k: number;
  scale: ScaleKind;
  colour_range: [number, number] | [];
}

export interface Found {
  token: number;
  text: string;
}

export interface CellTile {
  tokens: string[];
  ids: number[];
  ranks: number[];
  lines: number[][]; // [token][layer]
}

export interface WritesTile {
  token: string;
  labels: string[];
  values: number[];
  heads: number[][]; // [layer][head]
  total: number;
  scale: number;
  softcap: number | null;
}

export const NOT_HERE = "not stored in this page";

export const key = (of: object) => JSON.stringify(of);
export const plane = { probability: 0, entropy: 1, kl: 2 };

/** What a lens says at the positions in a window, as far as it is here. */
export function useNumbers(
  prompt: Prompt,
  at: number,
  [first, last]: [number, number],
  token: Found | undefined,
  of: string,
) {
  const blocks: number[] = [];
  for (let block = Math.floor(first / prompt.block); block * prompt.block < last; block++) blocks.push(block);
  const lens = (block: number) => key({ what: "lens", prompt: at, block });
  const tops = (block: number) => key({ what: "tops", prompt: at, block });
  const standing = (block: number) => key({ what: "standing", prompt: at, block, token: token?.token, of });
  const wanted = blocks.flatMap((block) => [lens(block), tops(block), ...(token && of ? [standing(block)] : [])]);
  const asked = useTiles(wanted);
  const depth = prompt.layers.length;
  const width = (block: number) => Math.min(prompt.block, prompt.size - block * prompt.block);
  const place = (layer: number, position: number) => {
    const block = Math.floor(position / prompt.block);
    return { block, i: layer * width(block) + (position % prompt.block), plane: depth * width(block) };
  };
  /** A number of a cell; NaN if it is not here. */
  const number = (which: keyof typeof plane, layer: number, position: number) => {
    const { block, i, plane: size } = place(layer, position);
    return asked.get(lens(block))?.data[plane[which] * size + i] ?? NaN;
  };
  const ofToken = (layer: number, position: number) => {
    const { block, i } = place(layer, position);
    return asked.get(standing(block))?.data[i] ?? NaN;
  };
  const top = (layer: number, position: number) => {
    const { block } = place(layer, position);
    return (asked.get(tops(block))?.json as string[][] | undefined)?.[layer]?.[position % prompt.block];
  };
  return { ...asked, number, ofToken, top, wanted: wanted.join("\n") };
}

/** The token that is followed, once Python has read its text. */
export function useFound(prompt: number, text: string): { found: Found | undefined; asked: Asked } {
  const name = key({ what: "token", prompt, text });
  const asked = useTiles(text ? [name] : []);
  return { found: text ? (asked.get(name)?.json as Found | undefined) : undefined, asked };
}

/** The cell of another prompt that takes a cell's place. */
export const fitted = ({ layers, size }: Prompt, layer: number, position: number) => ({
  layer: layers.includes(layer) ? layer : layers.at(-1)!,
  position: Math.min(position, size - 1),
});
