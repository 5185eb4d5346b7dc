// Values along the positions of a prompt, which come in blocks: one or many series.
import { useMemo } from "preact/hooks";
import type { Scale, ScaleKind } from "../colour.ts";
import { useTiles } from "../view.tsx";

const OCTAVES = 10; // of a log scale, below the largest value

/** Every series of a prompt, whole: NaN where a value is missing or not here yet; undefined until some are. */
export function useSeries(prompt: number, size: number, block: number, count: number) {
  const keys = Array.from({ length: count && Math.ceil(size / block) }, (_, i) =>
    JSON.stringify({ what: "values", prompt, block: i }),
  );
  const { get, errors, came } = useTiles(keys);
  const series = useMemo(() => {
    const tiles = keys.map(get);
    if (!tiles.some(Boolean)) return undefined;
    const all = Array.from({ length: count }, () => new Float32Array(size).fill(NaN));
    for (const [i, tile] of tiles.entries()) {
      const here = tile?.shape[1] ?? 0;
      const fits = Math.min(here, size - i * block); // the size may be another before the tiles are
      for (let s = 0; s < count && tile; s++)
        all[s]!.set((tile.data as Float32Array).subarray(s * here, s * here + fits), i * block);
    }
    return all;
  }, [keys.join("\n"), came, size]);
  return { series, errors };
}

/** The least and the largest value, with 0 between or below them; 0 and 1 if there is none. */
export function extent(values: Float32Array): [number, number] {
  let [low, high] = [0, 0];
  for (const value of values) {
    if (value < low) low = value;
    else if (value > high) high = value;
  }
  return low < high ? [low, high] : [0, 1];
}

/** Colours for some values: from 0 to the largest; through 0, and as far to either side, where some are negative. */
export function scaleOf(
  values: Float32Array,
  kind: ScaleKind,
  dark: boolean,
  [from, to]: readonly [number?, number?] | readonly number[],
): Scale {
  const [low, high] = extent(values);
  const signed = low < 0;
  const top = to ?? Math.max(-low, high);
  return { kind, low: signed ? 0 : (from ?? 0), high: top, floor: top / 2 ** OCTAVES, signed, dark };
}
