// Heat maps to look at in tests: where a cell is, and what colour it has.
import { colour } from "./attention.ts";

export const canvasOf = (el: HTMLElement, at = 0) =>
  el.querySelectorAll<HTMLCanvasElement>(".iw-heat-cells canvas")[at]!;

/** The middle of a cell on the canvas, in CSS pixels. */
export function middle(canvas: HTMLCanvasElement, row: number, column: number, rows: number, columns: number) {
  const { width, height } = canvas.getBoundingClientRect();
  return { x: ((column + 0.5) / columns) * width, y: ((row + 0.5) / rows) * height };
}

/** The colour of a cell as drawn, near its top right corner, where nothing is written. */
export function cellColour(canvas: HTMLCanvasElement, row: number, column: number, rows: number, columns: number) {
  const x = Math.floor(((column + 0.8) / columns) * canvas.width);
  const y = Math.floor(((row + 0.2) / rows) * canvas.height);
  return [...canvas.getContext("2d")!.getImageData(x, y, 1, 1).data];
}

/** How many colours there are within a cell. */
export function colours(canvas: HTMLCanvasElement, row: number, column: number, rows: number, columns: number) {
  const [width, height] = [canvas.width / columns, canvas.height / rows];
  const box = [column * width + 2, row * height + 2, width - 4, height - 4].map(Math.floor) as [number, number, number, number]; // prettier-ignore
  const data = new Uint32Array(canvas.getContext("2d")!.getImageData(...box).data.buffer);
  return new Set(data).size;
}

export { colour };
