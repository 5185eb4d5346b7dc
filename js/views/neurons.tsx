// Neurons over text: a table of all of them, and the text on which one is active.
import { useMemo, useState } from "preact/hooks";
import { count, format } from "../colour.ts";
import { Select } from "../parts/controls.tsx";
import { Flow } from "../parts/flow.tsx";
import { Frame } from "../parts/frame.tsx";
import { Legend } from "../parts/legend.tsx";
import {
  Facts,
  MAX,
  MEAN,
  type Pin,
  rowOf,
  SHARE,
  short,
  STRIP,
  Table,
  type Traits,
  WHERE,
} from "../parts/neurons.tsx";
import { One, type TokenAt, usePromptTokens } from "../parts/token.tsx";
import { scaleOf } from "../parts/values.ts";
import { NARROW, px, useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

const TRAITS = [
  "title", "prompts", "layers", "prompt", "layer", "neuron", "position", "sort_by", "filter", "pinned", "colour_range",
] as const; // prettier-ignore
const BLOCK = 1 << 17; // positions in a tile, as in interpwidgets/views/neurons.py
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

export default view(NeuronsView);
