// From tiles to pixels: coloured once, then stretched to where they are shown.
import { inks, painter, type Scale } from "../colour.ts";
import type { Tile } from "../tiles.ts";

export interface Picture {
  pixels: Uint32Array; // four bytes each, as in an ImageData
  rows: number;
  columns: number;
}

const MISSING = -128; // the code of a weight without a counterpart; no unsigned code is negative

/** One head's thumbnail out of the atlas `[layer, head, row, column]`. */
export function head(atlas: Tile, layer: number, of: number): Tile {
  const [, heads, rows, columns] = atlas.shape as [number, number, number, number];
  const start = (layer * heads + of) * rows * columns;
  return { ...atlas, shape: [rows, columns], data: atlas.data.subarray(start, start + rows * columns) };
}

const painted = new WeakMap<object, { scale: Scale; picture: Picture }>();

/** A tile's picture, one pixel a value; nothing where a causal model could not look. */
export function pictureOf(tile: Tile, scale: Scale, row0: number, column0: number, causal: boolean): Picture {
  const before = painted.get(tile);
  if (before?.scale === scale) return before.picture;
  const [rows, columns] = tile.shape as [number, number];
  const [down, across] = tile.step;
  const pixels = new Uint32Array(rows * columns);
  const { data } = tile;
  const paint = painter(scale);
  const ink = data instanceof Float32Array ? undefined : inks(scale, tile);
  for (let row = 0; row < rows; row++) {
    const last = row0 + (row + 1) * down - 1; // the latest query in this row of pixels
    const seen = causal ? Math.min(columns, Math.floor((last - column0) / across) + 1) : columns;
    const end = row * columns + seen;
    if (ink) for (let i = row * columns; i < end; i++) pixels[i] = ink[data[i]! + 128]!;
    else for (let i = row * columns; i < end; i++) pixels[i] = paint(data[i]!);
  }
  const picture = { pixels, rows, columns };
  painted.set(tile, { scale, picture });
  return picture;
}

/** A picture of a coded tile in which so many cells a side share a pixel, that of the largest weight. */
export function folded({ data, shape }: Tile, by: number, ink: Uint32Array, causal: boolean): Picture {
  const [height, width] = shape as [number, number];
  const [rows, columns] = [Math.ceil(height / by), Math.ceil(width / by)];
  const pixels = new Uint32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const bottom = Math.min(height, (row + 1) * by);
    const end = causal ? Math.min(columns, row + 1) : columns;
    for (let column = 0; column < end; column++) {
      const right = Math.min(width, (column + 1) * by);
      let most = data[row * by * width + column * by]!;
      for (let r = row * by; r < bottom; r++)
        for (let i = r * width + column * by; i < r * width + right; i++) {
          const code = data[i]!; // codes are in the order of weights
          if (code > most ? code > -most || most === MISSING : code < -most && code !== MISSING) most = code;
        }
      pixels[row * columns + column] = ink[most + 128]!;
    }
  }
  return { pixels, rows, columns };
}

/** Draw a picture into an image, over a place that may reach beyond it: each pixel is the cell under its middle. */
export function stretch(
  { pixels, rows, columns }: Picture,
  image: ImageData,
  place: { left: number; top: number; width: number; height: number },
) {
  const into = new Uint32Array(image.data.buffer);
  const across = image.width;
  const first = Math.max(0, Math.round(place.left));
  const last = Math.min(across, Math.round(place.left + place.width));
  const end = Math.min(image.height, Math.round(place.top + place.height));
  if (last <= first) return;
  const column = new Int32Array(last - first);
  for (let x = first; x < last; x++) column[x - first] = under(x, place.left, place.width, columns);
  let before = -1;
  for (let y = Math.max(0, Math.round(place.top)); y < end; y++) {
    const row = under(y, place.top, place.height, rows);
    const start = y * across + first;
    if (row === before) into.copyWithin(start, start - across, start - across + column.length);
    else for (let i = 0, from = row * columns; i < column.length; i++) into[start + i] = pixels[from + column[i]!]!;
    before = row;
  }
}

const under = (pixel: number, start: number, length: number, cells: number) =>
  Math.max(0, Math.min(cells - 1, Math.floor(((pixel + 0.5 - start) * cells) / length)));
