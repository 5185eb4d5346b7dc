// All heads as live thumbnails: by layer, or ranked by a score.
import { useEffect, useRef } from "preact/hooks";
import { painter, type Scale } from "../colour.ts";
import { px, useTiles } from "../view.tsx";
import { keys, type Prompt } from "./attention.ts";
import { head as thumbnail } from "./matrix.tsx";

interface Props {
  prompt: Prompt;
  at: number; // which prompt it is
  minus: number;
  of: string; // its name, where there are several
  width: number;
  scale: Scale;
  pooling: string;
  layer: number;
  head: number;
  labels: [layer: number, head: number, label: string][];
  sortBy: string;
  region: number[];
  scoreNames: string[];
  onSelect: (layer: number, head: number) => void;
  onSort: (name: string) => void;
}

const MISSING = -128; // the code of a weight without a counterpart; no unsigned code is negative
const GAP = 3;
const MARGIN = 26; // for the layer's name

export function Heads(props: Props) {
  const { prompt, at, minus, width, scale, pooling, layer, head, labels, sortBy, region, scoreNames } = props;
  const [layers, heads] = prompt.shape;
  const scoresKey = sortBy ? keys.scores(at, minus, sortBy, region) : "";
  const { get, errors } = useTiles([keys.atlas(at, minus), ...(sortBy ? [scoresKey] : [])]);
  const atlas = get(keys.atlas(at, minus));
  const scores = sortBy ? (get(scoresKey)?.data as Float32Array | undefined) : undefined;

  const order = Array.from({ length: layers * heads }, (_, i) => i);
  if (scores) order.sort((a, b) => scores[b]! - scores[a]!);
  const ranked = scores !== undefined;
  const side = Math.max(14, Math.min(96, Math.floor((width - MARGIN) / Math.min(heads, 16)) - GAP));
  const across = ranked ? Math.max(1, Math.floor(width / (Math.max(side, 40) + GAP))) : heads;
  const size = ranked ? Math.max(side, 40) : side;
  const line = size + GAP + (ranked ? 13 : 0);
  const left = ranked ? 0 : MARGIN;
  const where = (i: number) => ({ x: left + (i % across) * (size + GAP), y: Math.floor(i / across) * line });
  const total = { width: left + across * (size + GAP), height: Math.ceil(order.length / across) * line };

  const canvas = useRef<HTMLCanvasElement>(null);
  const ratio = globalThis.devicePixelRatio || 1;
  useEffect(() => {
    if (!atlas) return;
    Object.assign(canvas.current!, { width: total.width * ratio, height: total.height * ratio });
    const context = canvas.current!.getContext("2d")!;
    context.imageSmoothingEnabled = false;
    const paint = painter(scale, atlas);
    const [, , , rows, columns] = atlas.shape as [number, number, number, number, number];
    const fold = Math.max(1, Math.ceil(Math.max(rows, columns) / (size * ratio))); // cells that share a pixel
    const small = document.createElement("canvas");
    Object.assign(small, { width: Math.ceil(columns / fold), height: Math.ceil(rows / fold) });
    for (const [i, of] of order.entries()) {
      const { data } = thumbnail(atlas, Math.floor(of / heads), of % heads, pooling);
      const image = new ImageData(small.width, small.height);
      for (let row = 0, pixel = 0; row < small.height; row++)
        for (let column = 0; column < small.width; column++, pixel++) {
          if (prompt.causal && column > row) continue;
          let most = data[row * fold * columns + column * fold]!;
          for (let r = row * fold; r < Math.min(rows, (row + 1) * fold); r++)
            for (let c = column * fold; c < Math.min(columns, (column + 1) * fold); c++) {
              const code = data[r * columns + c]!;
              if (most === MISSING || (code !== MISSING && Math.abs(code) > Math.abs(most))) most = code; // in the order of weights
            }
          paint(most, image.data, 4 * pixel);
        }
      small.getContext("2d")!.putImageData(image, 0, 0);
      const { x, y } = where(i);
      context.drawImage(small, x * ratio, y * ratio, size * ratio, size * ratio);
    }
  }, [atlas, scale, pooling, size, across, ranked && scores, ratio]);

  const named = new Map(labels.map(([layer, head, label]) => [layer * heads + head, label]));
  const box = useRef<HTMLDivElement>(null);
  const chosen = order.indexOf(layer * heads + head);
  const press = (event: KeyboardEvent) => {
    const by: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
    const next = order[chosen + (by[event.key] ?? NaN)];
    if (next === undefined) return;
    event.preventDefault();
    props.onSelect(Math.floor(next / heads), next % heads);
    (box.current!.querySelectorAll("button")[order.indexOf(next)] as HTMLElement).focus();
  };

  return (
    <div class="iw-heads">
      <div class="iw-row">
        <strong>Heads</strong>
        {props.of && <span> of {props.of}</span>}
        <label title="Rank heads by a score. A template's score is the attention spent on its keys, from 0 to 1.">
          {" "}
          find{" "}
          <select value={sortBy} onChange={(event) => props.onSort(event.currentTarget.value)}>
            <option value="">all, by layer</option>
            {scoreNames.map((name) => (
              <option value={name}>{name}</option>
            ))}
            {region.length > 0 && <option value="region">painted region</option>}
          </select>
        </label>
        {sortBy && !scores && !errors.length && <small>ranking…</small>}
      </div>
      {errors.map((error) => (
        <small class="iw-note" role="alert">
          {error === "not stored in this page" ? "Ranking by this needs a running kernel." : error}
        </small>
      ))}
      {!ranked && (
        <div class="iw-head-names" style={px({ marginLeft: left })} aria-hidden="true">
          {Array.from({ length: heads }, (_, i) => (
            <span style={px({ width: size + GAP })}>{size >= 18 || i % 4 === 0 ? i : ""}</span>
          ))}
        </div>
      )}
      <div
        class="iw-thumbs"
        ref={box}
        role="group"
        aria-label={`Heads, ${sortBy ? `ranked by ${sortBy}` : "a row a layer"}`}
        onKeyDown={press}
      >
        <div style={px(total)}>
          <canvas ref={canvas} style={px(total)} aria-hidden="true" />
          {!ranked &&
            Array.from({ length: layers }, (_, i) => (
              <span class="iw-layer-name" style={px({ top: i * line, lineHeight: size })}>
                L{i}
              </span>
            ))}
          {order.map((of, i) => {
            const [l, h] = [Math.floor(of / heads), of % heads];
            const { x, y } = where(i);
            const label = named.get(of);
            const name = `layer ${l} head ${h}${label ? `, ${label}` : ""}${scores ? `, ${sortBy} ${scores[of]!.toFixed(2)}` : ""}`;
            return (
              <button
                type="button"
                class={label ? "iw-labelled" : ""}
                aria-pressed={of === order[chosen]}
                aria-label={name}
                title={name}
                tabIndex={i === chosen ? 0 : -1}
                style={px({ left: x, top: y, width: size, height: size })}
                onClick={() => props.onSelect(l, h)}
              >
                {ranked && (
                  <small>
                    {l}.{h} <b>{scores[of]!.toFixed(2)}</b>
                  </small>
                )}
              </button>
            );
          })}
        </div>
      </div>
    </div>
  );
}
