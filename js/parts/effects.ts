// Effects by tiles: their numbers, their axes, and the cell that is selected.
import { useTiles } from "../view.tsx";

export type Measure = "effect" | "recovered" | "value";
export type Label = number | string;

export interface Panel {
  name: string;
  metric: string;
  how: string;
  n: number;
  axes: [name: string, size: number][];
  corrupted: number; // means over prompts
  clean: number | null;
  gap: number | null; // from corrupted to clean; null where there is nothing to recover
  draws: number; // random components of the control
  live: boolean;
  done: [cells: number, of: number];
  most: number; // the largest effect, either way
  range: [number, number]; // of the metric
}

export const ROLES = { layer: "layer", head: "head", pos: "position", neuron: "neuron" } as const; // as in patching_tiles.py
export type Role = (typeof ROLES)[keyof typeof ROLES];

export interface Traits extends Record<Role, number | null> {
  title: string;
  panels: Panel[];
  pairs: string[];
  panel: number;
  cell: number[];
  prompt: number;
  measure: Measure;
  held: string;
  colour_range: [number, number] | [];
}
export interface Pair {
  clean: string[] | null;
  corrupted: string[] | null;
  marked: number[];
}

export const CELLS = 40_000; // in a tile, as in patching_tiles.py
export const NOT_HERE = "not stored in this page";
export const key = (of: object) => JSON.stringify(of);
export const roleOf = (axis: string): Role | undefined => ROLES[axis as keyof typeof ROLES];

/** Which axes are rows and columns, and which is held; −1 for none. As `Panel.sides` in patching_tiles.py. */
export function sides({ axes }: Panel, held: string) {
  const names = axes.map(([name]) => name);
  const found = names.indexOf(held);
  const kept = names.length < 3 ? -1 : found < 0 ? names.length - 1 : found;
  const shown = names.map((_, i) => i).filter((i) => i !== kept);
  if (shown.length === 1) return { row: -1, column: shown[0]!, kept };
  const row = shown.find((i) => names[i] === "layer") ?? shown[0]!;
  return { row, column: shown.find((i) => i !== row)!, kept };
}

/** The selected cell's place on each axis: what views share goes before what this one keeps to itself. */
export function placeOf(traits: Traits, panel: Panel, labels: Label[][] | undefined): number[] {
  if (traits.cell.length !== panel.axes.length) return [];
  return traits.cell.map((at, i) => {
    const role = roleOf(panel.axes[i]![0]);
    const label = role && traits[role];
    if (label === null || label === undefined || !labels) return at;
    const found = labels[i]!.indexOf(label);
    return found >= 0 ? found : typeof labels[i]![0] === "string" && label < labels[i]!.length ? label : at;
  });
}

export const useLabels = (at: number) => {
  const name = key({ what: "labels", panel: at });
  return useTiles([name]).get(name)?.json as Label[][] | undefined;
};

export function usePair(traits: Traits): Pair | undefined {
  const name = key({ what: "pair", prompt: traits.prompt });
  return useTiles(traits.pairs.length ? [name] : []).get(name)?.json as Pair | undefined;
}

/** The numbers of a table as it stands: NaN where a cell was not run, or is not here. */
export function useNumbers(panel: Panel, at: number, held: string, cell: number[]) {
  const { row, column, kept } = sides(panel, held);
  const rows = row < 0 ? 1 : panel.axes[row]![1];
  const columns = panel.axes[column]![1];
  const per = Math.max(1, Math.floor(CELLS / rows));
  const slice = kept < 0 ? 0 : (cell[kept] ?? 0);
  const blocks = Array.from({ length: Math.ceil(columns / per) }, (_, block) => block);
  const name = (what: string, block: number) => key({ what, panel: at, held, at: slice, block });
  const { get, came, errors } = useTiles([
    ...blocks.map((block) => name("cells", block)),
    ...blocks.map((block) => name("intervals", block)),
  ]);
  const read = (what: string, plane: number) => (r: number, c: number) => {
    const tile = get(name(what, Math.floor(c / per)));
    const across = tile?.shape[2] ?? 0;
    return tile?.data[(plane * rows + r) * across + (c % per)] ?? NaN;
  };
  return {
    rows, columns, row, column, kept, came: `${came} ${slice} ${held}`, errors,
    value: read("cells", 0), effect: read("cells", 1), control: read("cells", 2),
    low: read("intervals", 0), high: read("intervals", 1),
  }; // prettier-ignore
}
