// Neurons over text: a table of all of them, and the text on which one is active.
import { useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, format, painter, type Scale } from "../colour.ts";
import { Select } from "../parts/controls.tsx";
import { Flow } from "../parts/flow.tsx";
import { Frame } from "../parts/frame.tsx";
import { Legend } from "../parts/legend.tsx";
import { One, type TokenAt, usePromptTokens } from "../parts/token.tsx";
import { scaleOf } from "../parts/values.ts";
import type { Tile } from "../tiles.ts";
import { NARROW, px, useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

type Sort = "max" | "mean" | "position" | "share" | "index";
type Pin = [layer: number, neuron: number];

interface Traits {
  title: string;
  prompts: { name: string; size: number }[];
  layers: { name: string; neurons: number }[];
  prompt: number;
  layer: number;
  neuron: number;
  position: number | null;
  sort_by: Sort;
  filter: string;
  pinned: Pin[];
  colour_range: [number, number] | [];
}

const TRAITS = [
  "title", "prompts", "layers", "prompt", "layer", "neuron", "position", "sort_by", "filter", "pinned", "colour_range",
] as const; // prettier-ignore
// As in interpwidgets/views/neurons.py.
const ROWS = 32; // in a tile
const BLOCK = 1 << 17; // positions in a tile
const [INDEX, MAX, MEAN, SHARE, WHERE, AT, STRIP] = [0, 1, 2, 3, 4, 5, 6];

const LINE = 22; // CSS pixels of a row
const VIEW = 14; // rows in view
const AHEAD = 8;

function NeuronsView() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { prompts, layers, prompt, layer, neuron, position, pinned } = traits;
  const { size } = prompts[prompt]!;
  const width = useWidth();
  const dark = useDark();
  const [hovered, setHovered] = useState<number | null>(null);
  const tokenAt = usePromptTokens(prompt, 0, size);
  const keys = Array.from({ length: Math.ceil(size / BLOCK) }, (_, block) =>
    JSON.stringify({ what: "line", prompt, layer, neuron, block }),
  );
  const { get, errors, came } = useTiles(keys);
  const values = useMemo(() => {
    const tiles = keys.map(get);
    if (!tiles.every(Boolean)) return undefined;
    const all = new Float32Array(size);
    for (const [block, tile] of tiles.entries()) all.set(tile!.data, block * BLOCK);
    return all;
  }, [keys.join("\n"), came]);
  const [from, to] = traits.colour_range;
  const scale = useMemo(
    () => scaleOf(values ?? new Float32Array(), "linear", dark, [from, to]),
    [values, dark, from, to],
  );
  const valueAt = useMemo(() => (at: number) => values?.[at], [values]);

  const narrow = width < NARROW;
  const left = narrow ? width : Math.floor(Math.min(0.48 * width, 560));
  const right = narrow ? width : width - left - 28;
  const isPinned = pinned.some(([l, n]) => l === layer && n === neuron);
  const pin = ([l, n]: Pin) => {
    const others = pinned.filter(([pl, pn]) => pl !== l || pn !== n);
    set({ pinned: others.length < pinned.length ? others : [...pinned, [l, n]] });
  };
  const go = ([l, n]: Pin) => set(l === layer ? { neuron: n } : { layer: l, neuron: n });
  const at = hovered ?? position;

  return (
    <Frame
      name="neurons"
      title={traits.title}
      about={
        <>
          {count(layers[layer]!.neurons)} neurons of layer {layers[layer]!.name} on {count(size)} tokens. Each row is a
          neuron; its strip is the text from beginning to end. Click one to see its text.
        </>
      }
      controls={
        <>
          {prompts.length > 1 && (
            <Select
              label="prompt"
              value={prompt}
              options={prompts.map(({ name }, i) => [i, name])}
              onChange={(next) => set({ prompt: next, position: null })}
            />
          )}
          {layers.length > 1 && (
            <Select
              label="layer"
              value={layer}
              options={layers.map(({ name }, i) => [i, name])}
              onChange={(next) => set({ layer: next, ...(neuron >= layers[next]!.neurons && { neuron: 0 }) })}
            />
          )}
          <Select
            label="sort by"
            value={traits.sort_by}
            options={[
              ["max", "max"],
              ["mean", "mean"],
              ["share", "share active"],
              ["position", position === null ? "value at a token (select one)" : `value at token ${position}`],
              ["index", "index"],
            ]}
            onChange={(sort_by) => set({ sort_by })}
          />
          <label title="An index, or conditions: max > 2, share < 0.1">
            filter{" "}
            <input
              type="search"
              value={traits.filter}
              placeholder="31, or max > 2"
              onChange={(event) => set({ filter: event.currentTarget.value })}
            />
          </label>
        </>
      }
      status={<Pointed {...{ layers, layer, neuron, at, tokenAt, values, prompt }} />}
    >
      <div class="iw-columns">
        <div style={px({ width: left })}>
          {pinned.length > 0 && (
            <div class="iw-pinned" role="group" aria-label="pinned neurons">
              {pinned.map((each) => (
                <Pinned {...{ prompt, each, layers, dark }} onSelect={() => go(each)} onPin={() => pin(each)} />
              ))}
            </div>
          )}
          <Table
            key={[prompt, layer, traits.sort_by, traits.filter].join("\n")}
            {...{ traits, size, dark }}
            onSelect={(n) => set({ neuron: n })}
          />
        </div>
        <div class="iw-large">
          <div class="iw-row">
            <strong>
              Layer {layers[layer]!.name}, neuron {count(neuron)}
            </strong>
            <button type="button" aria-pressed={isPinned} onClick={() => pin([layer, neuron])}>
              {isPinned ? "pinned" : "pin"}
            </button>
          </div>
          <Flow
            label={`Text on the colour of neuron ${neuron} of layer ${layers[layer]!.name}`}
            {...{ size, tokenAt, valueAt, scale, position }}
            span={[]}
            width={right}
            lines={12}
            onHover={setHovered}
            onSelect={(next) => set({ position: next })}
          />
          {errors.map((error) => (
            <small class="iw-note" role="alert">
              {error === "not stored in this page" ? "This copy does not hold the text of this neuron." : error}
            </small>
          ))}
          <Legend
            scale={scale}
            what="activation"
            automatic={!traits.colour_range.length}
            onRange={(colour_range) => set({ colour_range })}
          />
          {position !== null && (
            <Strongest {...{ prompt, layer, position, tokenAt }} onSelect={(n) => set({ neuron: n })} />
          )}
        </div>
      </div>
    </Frame>
  );
}

/** A row of a tile: numbers of one neuron. */
const rowOf = (tile: Tile, i: number) =>
  (tile.data as Float32Array).subarray(i * tile.shape[1]!, (i + 1) * tile.shape[1]!);

/** The table, of which only what is near the view is asked for and drawn. */
function Table({
  traits,
  size,
  dark,
  onSelect,
}: {
  traits: Traits;
  size: number;
  dark: boolean;
  onSelect: (neuron: number) => void;
}) {
  const { prompt, layer, neuron, sort_by: sort, filter } = traits;
  const position = sort === "position" ? traits.position : null;
  const key = (block: number) => JSON.stringify({ what: "rows", prompt, layer, sort, position, filter, block });
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0); // the first row in view, in steps
  const [total, setTotal] = useState(0);
  const first = Math.max(0, top - AHEAD);
  const last = Math.min(Math.max(total, ROWS), top + VIEW + 2 * AHEAD);
  const blocks: number[] = [];
  for (let block = Math.floor(first / ROWS); block * ROWS < last; block++) blocks.push(block);
  const { get, errors } = useTiles(blocks.map(key));
  const some = blocks.map((block) => get(key(block))).find(Boolean) as (Tile & Record<"total" | "least" | "most", number>) | undefined; // prettier-ignore
  useLayoutEffect(() => {
    if (some) setTotal(some.total);
  }, [some?.total]);
  const { least = 0, most = 1 } = some ?? {};
  const scale = useMemo(() => scaleOf(Float32Array.of(least, most), "linear", dark, []), [least, most, dark]);
  const at = (i: number) => {
    const tile = get(key(Math.floor(i / ROWS)));
    return tile && i < total && i % ROWS < tile.shape[0]! ? rowOf(tile, i % ROWS) : undefined;
  };
  const places = Array.from({ length: Math.max(0, Math.min(last, total) - first) }, (_, i) => first + i);
  const here = places.find((i) => at(i)?.[INDEX] === neuron);

  const press = (event: KeyboardEvent) => {
    const by: Record<string, number> = { ArrowUp: -1, ArrowDown: 1, PageUp: 1 - VIEW, PageDown: VIEW - 1 };
    const step = by[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = here === undefined ? top : Math.max(0, Math.min(total - 1, here + step));
    const row = at(next);
    if (row) onSelect(row[INDEX]!);
    const { scrollTop } = box.current!;
    if (next * LINE < scrollTop) box.current!.scrollTop = next * LINE;
    else if ((next + 1) * LINE > scrollTop + VIEW * LINE) box.current!.scrollTop = (next + 1 - VIEW) * LINE;
  };
  const click = ({ target }: Event) => {
    const place = (target as Element).closest<HTMLElement>("[data-row]")?.dataset.row;
    const row = place === undefined ? undefined : at(Number(place));
    if (row) onSelect(row[INDEX]!);
  };
  return (
    <>
      <div class="iw-neuron iw-head" aria-hidden="true">
        <span>neuron</span>
        <span>max</span>
        <span>mean</span>
        <span>{position === null ? "active" : `at ${position}`}</span>
        <span>text: 0 to {count(size - 1)}</span>
      </div>
      <div
        class="iw-neuron-table"
        ref={box}
        role="listbox"
        tabIndex={0}
        aria-label={`${count(total)} neurons, sorted by ${sort}. Arrow keys move the selection.`}
        aria-activedescendant={here === undefined ? undefined : `${id}-${here}`}
        style={px({ height: VIEW * LINE })}
        onScroll={() => setTop(AHEAD * Math.floor(box.current!.scrollTop / LINE / AHEAD))}
        onKeyDown={press}
        onClick={click}
      >
        <div style={px({ height: total * LINE })}>
          {places.map((i) => (
            <Row
              key={i}
              place={i}
              total={total}
              id={`${id}-${i}`}
              row={at(i)}
              selected={i === here}
              scale={scale}
              position={position}
            />
          ))}
        </div>
      </div>
      <small>
        {errors.length ? (
          <span role="alert">
            {errors[0] === "not stored in this page" ? "This copy does not hold these rows." : errors[0]}
          </span>
        ) : some ? (
          `${count(total)} of ${count(traits.layers[layer]!.neurons)} neurons; strips from ${format(least)} to ${format(most)}`
        ) : (
          "…"
        )}
      </small>
    </>
  );
}

function Row({
  place,
  total,
  id,
  row,
  selected,
  scale,
  position,
}: {
  place: number;
  total: number;
  id: string;
  row: Float32Array | undefined;
  selected: boolean;
  scale: Scale;
  position: number | null;
}) {
  return (
    <div
      class={`iw-neuron${selected ? " iw-active" : ""}`}
      data-row={place}
      id={id}
      role="option"
      aria-selected={selected}
      aria-setsize={total}
      aria-posinset={place + 1}
      style={px({ top: place * LINE, height: LINE })}
    >
      <span>{row ? row[INDEX] : "…"}</span>
      {row && <Facts {...{ row, scale, position }} />}
    </div>
  );
}

/** What a row says of a neuron, beside its name. */
function Facts({ row, scale, position }: { row: Float32Array; scale: Scale; position: number | null }) {
  return (
    <>
      <span title={`at position ${row[WHERE]}`}>{short(row[MAX]!)}</span>
      <span>{short(row[MEAN]!)}</span>
      <span>{position === null ? `${(100 * row[SHARE]!).toFixed(1)} %` : short(row[AT]!)}</span>
      <Strip values={row.subarray(STRIP)} scale={scale} />
    </>
  );
}

function Strip({ values, scale }: { values: Float32Array; scale: Scale }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    canvas.current!.width = values.length;
    const image = new ImageData(values.length, 1);
    new Uint32Array(image.data.buffer).set(Array.from(values, painter(scale)));
    canvas.current!.getContext("2d")!.putImageData(image, 0, 0);
  }, [values.buffer, values.byteOffset, scale]);
  return <canvas ref={canvas} height={1} aria-hidden="true" />;
}

function Pinned({
  prompt,
  each: [layer, neuron],
  layers,
  dark,
  onSelect,
  onPin,
}: {
  prompt: number;
  each: Pin;
  layers: Traits["layers"];
  dark: boolean;
  onSelect: () => void;
  onPin: () => void;
}) {
  const key = JSON.stringify({ what: "row", prompt, layer, neuron });
  const tile = useTiles([key]).get(key);
  const row = tile && rowOf(tile, 0);
  const scale = useMemo(() => scaleOf(row?.subarray(STRIP) ?? new Float32Array(), "linear", dark, []), [tile, dark]);
  return (
    <div class="iw-neuron">
      <span>
        <button
          type="button"
          title={`Layer ${layers[layer]!.name}, neuron ${neuron}: show its text`}
          onClick={onSelect}
        >
          {layers[layer]!.name}·{neuron}
        </button>
        <button type="button" aria-label={`unpin neuron ${neuron} of layer ${layers[layer]!.name}`} onClick={onPin}>
          ×
        </button>
      </span>
      {row && <Facts {...{ row, scale, position: null }} />}
    </div>
  );
}

/** The neurons of largest value at a token. */
function Strongest({
  prompt,
  layer,
  position,
  tokenAt,
  onSelect,
}: {
  prompt: number;
  layer: number;
  position: number;
  tokenAt: TokenAt;
  onSelect: (neuron: number) => void;
}) {
  const key = JSON.stringify({ what: "at", prompt, layer, position });
  const { get, errors } = useTiles([key]);
  const tile = get(key);
  const top = tile?.shape[1] ?? 0;
  return (
    <div class="iw-strongest">
      most active at <One token={tokenAt(position)} position={position} />:{" "}
      {Array.from({ length: top }, (_, i) => (
        <button type="button" onClick={() => onSelect(tile!.data[i]!)}>
          {tile!.data[i]} <b>{short(tile!.data[top + i]!)}</b>
        </button>
      ))}
      {!tile && (errors.length ? "not stored in this copy" : "…")}
    </div>
  );
}

/** The token pointed at or selected, and the neuron's exact activation there. */
function Pointed({
  layers,
  layer,
  neuron,
  at,
  tokenAt,
  values,
  prompt,
}: {
  layers: Traits["layers"];
  layer: number;
  neuron: number;
  at: number | null;
  tokenAt: TokenAt;
  values: Float32Array | undefined;
  prompt: number;
}) {
  const row = JSON.stringify({ what: "row", prompt, layer, neuron });
  const tile = useTiles([row]).get(row);
  const facts = tile && rowOf(tile, 0);
  return (
    <>
      {at !== null && (
        <>
          <One token={tokenAt(at)} position={at} />
          <span class="iw-reading">
            activation <b>{values ? format(values[at]!) : "…"}</b>
          </span>
        </>
      )}
      <span class="iw-reading">
        layer {layers[layer]!.name}, neuron {count(neuron)}
        {facts && (
          <>
            : max <b>{format(facts[MAX]!)}</b> at <One token={tokenAt(facts[WHERE]!)} position={facts[WHERE]!} />, mean{" "}
            <b>{format(facts[MEAN]!)}</b>, above 0 at <b>{(100 * facts[SHARE]!).toFixed(1)} %</b> of positions
          </>
        )}
      </span>
    </>
  );
}

const short = (value: number) => Number(value.toPrecision(3)).toString().replace("-", "−");

export default view(NeuronsView);
