// How strong a head is, and what its colours leave out: read off its thumbnail.
import { decode, place, type Scale } from "../colour.ts";
import type { Tile } from "../tiles.ts";
import type { Panel } from "./attention.ts";
import { head } from "./pixels.ts";

const thumbnail = (atlas: Tile | undefined, { layer, head: of }: Panel) =>
  atlas && typeof of === "number" ? head(atlas, layer, of) : undefined;

/** The largest weight of the panel's head; of all heads together where heads are taken together. */
export function largest(atlas: Tile | undefined, panel: Panel, ignoreFirst: boolean): number {
  const tile = thumbnail(atlas, panel);
  if (!tile) return atlas?.high ?? 1;
  const columns = tile.shape[1]!;
  let most = 0;
  tile.data.forEach((code, i) => {
    if (code !== -128 && !(ignoreFirst && columns > 1 && i % columns === 0)) most = Math.max(most, Math.abs(code));
  });
  return decode(tile, most) || tile.high;
}

/** The shares of a head's pixels beyond the colours: larger than the last, or so small that they look like nothing. */
export function clippedShare(atlas: Tile | undefined, panel: Panel, causal: boolean, scale: Scale) {
  const tile = thumbnail(atlas, panel);
  if (!tile) return null;
  const columns = tile.shape[1]!;
  let [all, above, below] = [0, 0, 0];
  tile.data.forEach((code, i) => {
    if (code === -128 || (causal && i % columns > Math.floor(i / columns))) return;
    const value = decode(tile, code);
    all++;
    if (Math.abs(value) > scale.high * 1.04)
      above++; // more than the code's own error
    else if (Math.abs(place(scale, value)) < 0.5 / 255) below++;
  });
  return all ? { above: above / all, below: below / all } : null;
}
