// All heads as live thumbnails: by layer, or ranked by a score.
import { useLayoutEffect, useRef } from "preact/hooks";
import { inks, type Scale } from "../colour.ts";
import { px, useTiles } from "../view.tsx";
import { keys, type Of, type Prompt } from "./attention.ts";
import { folded, head, stretch } from "./pixels.ts";

interface Props {
  prompt: Prompt;
  whose: Of;
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

const GAP = 3;
const MARGIN = 26; // for the layer's name

export function Heads(props: Props) {
  const { prompt, whose, width, scale, pooling, layer, labels, sortBy, region, scoreNames } = props;
  const [layers, heads] = prompt.shape;
  const scoresKey = sortBy ? keys.scores(whose.prompt, whose.minus, sortBy, region) : "";
  const atlasKey = keys.atlas(whose, pooling);
  const { get, errors } = useTiles([atlasKey, ...(sortBy ? [scoresKey] : [])]);
  const atlas = get(atlasKey);
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
  useLayoutEffect(() => {
    if (!atlas) return;
    Object.assign(canvas.current!, { width: total.width * ratio, height: total.height * ratio });
    const context = canvas.current!.getContext("2d")!;
    const ink = inks(scale, atlas);
    const side = Math.round(size * ratio);
    for (let first = 0; first < order.length; first += across) {
      const image = new ImageData(canvas.current!.width, side);
      for (const [i, of] of order.slice(first, first + across).entries()) {
        const tile = head(atlas, Math.floor(of / heads), of % heads);
        const small = folded(tile, Math.max(1, Math.ceil(Math.max(...tile.shape) / side)), ink, prompt.causal);
        stretch(small, image, { left: Math.round(where(i).x * ratio), top: 0, width: side, height: side });
      }
      context.putImageData(image, 0, Math.round(where(first).y * ratio));
    }
  }, [atlas, scale, size, across, ranked && scores, ratio]);

  const named = new Map(labels.map(([layer, head, label]) => [layer * heads + head, label]));
  const box = useRef<HTMLDivElement>(null);
  const chosen = order.indexOf(layer * heads + props.head);
  const press = (event: KeyboardEvent) => {
    const by: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
    const next = order[chosen + (by[event.key] ?? NaN)];
    if (next === undefined) return;
    event.preventDefault();
    props.onSelect(Math.floor(next / heads), next % heads);
    (box.current!.querySelectorAll("button")[order.indexOf(next)] as HTMLElement).focus();
  };
  const click = ({ target }: Event) => {
    const of = order[[...box.current!.querySelectorAll("button")].indexOf((target as Element).closest("button")!)];
    if (of !== undefined) props.onSelect(Math.floor(of / heads), of % heads);
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
          {error === "not stored in this page" ? "This needs a running kernel." : error}
        </small>
      ))}
      {!ranked && (
        <div class="iw-head-names" style={px({ "margin-left": left })} aria-hidden="true">
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
        onClick={click}
        onMouseOver={explain}
      >
        <div style={px(total)}>
          <canvas ref={canvas} style={px(total)} aria-hidden="true" />
          {!ranked &&
            Array.from({ length: layers }, (_, i) => (
              <span class="iw-layer-name" style={px({ top: i * line, "line-height": size })}>
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
                tabIndex={i === chosen ? 0 : -1}
                style={px({ left: x, top: y, width: size, height: size })}
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

/** The tooltip of a button is its name, set when the pointer comes: most are never seen. */
function explain({ target }: Event) {
  const button = (target as Element).closest("button");
  if (button) button.title = button.ariaLabel!;
}
