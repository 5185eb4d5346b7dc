// Direct logit attribution: layers, then the heads of one, then the tokens whose values a head carried.
import { useState } from "preact/hooks";
import { count, format } from "../colour.ts";
import { type Bar, Bars } from "../parts/bars.tsx";
import { Choice, Select } from "../parts/controls.tsx";
import { Frame } from "../parts/frame.tsx";
import { One, useTokenTiles, tokensKey } from "../parts/token.tsx";
import type { Tile } from "../tiles.ts";
import { NARROW, px, useTiles, useTraits, useWidth, view } from "../view.tsx";

const TRAITS = ["title", "measured", "prompts", "shape", "prompt", "layer", "head", "position", "sort"] as const;
interface Traits {
  title: string;
  measured: string; // the metric
  prompts: string[];
  shape: [prompts: number, layers: number, heads: number];
  prompt: number | null; // null: the mean over all
  layer: number;
  head: number | null;
  position: number | null;
  sort: "layer" | "size";
}

interface Row extends Bar {
  name: string; // in words
  part?: { layer: number; kind: "attn" | "mlp" };
  head?: number;
  position?: number;
}

const CHUNK = 1024; // tokens, as in views/tile.py
const SHOWN = 40; // source tokens: of more, those that weigh most

function Residual() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { measured, prompt, layer, head, position, sort } = traits;
  const [n, layers, heads] = traits.shape;
  const width = useWidth();
  const [hover, setHover] = useState<Row | null>(null);
  const [kept, setKept] = useState<string | null>(null); // a row that nothing is behind
  const keys = {
    rows: JSON.stringify({ what: "rows", prompt }),
    parts: JSON.stringify({ what: "parts", prompt }),
    heads: JSON.stringify({ what: "heads", prompt, layer }),
    sources: JSON.stringify({ what: "sources", prompt, layer, head }),
  };
  const split = prompt !== null && head !== null;
  const tiles = useTiles([keys.rows, keys.parts, keys.heads, ...(split ? [keys.sources] : [])]);
  const sized = (key: string, rows: number) => {
    const tile = tiles.get(key);
    return tile?.shape[0] === rows ? tile : undefined; // not that of the data before
  };
  const sources = split ? tiles.get(keys.sources) : undefined;

  const byLayer = layerRows(sized(keys.rows, 2 * layers + 4), sized(keys.parts, layers), layers, heads, sort);
  const byHead = headRows(sized(keys.heads, heads + 1), layer, heads, sort);
  const largest = strongest(sources?.data as Float32Array | undefined, sort);
  const tokens = useTokenTiles((chunk) => tokensKey(prompt ?? 0, chunk), CHUNK, largest);
  const total = (sources?.data as Float32Array | undefined)?.reduce((sum, value) => sum + (value || 0), 0) ?? 0;
  const bySource: Row[] = largest.map((at) => ({
    name: `from ${tokens(at)?.text ?? "…"} at position ${at}`,
    label: <One token={tokens(at)} position={at} />,
    value: (sources!.data as Float32Array)[at]!,
    position: at,
  }));
  const attended = (sources?.data as Float32Array | undefined)?.filter((value) => !Number.isNaN(value)).length ?? 0;
  if (attended > largest.length)
    bySource.push({
      name: "from all other tokens",
      label: <small>{count(attended - largest.length)} others</small>,
      value: total - bySource.reduce((sum, row) => sum + row.value, 0),
    });

  const narrow = width < NARROW;
  const size = narrow ? width - 4 : Math.floor((width - 2 * 24) / 3);
  const labels = Math.min(108, size / 4);
  const chosen =
    (head !== null && position !== null && bySource.find((row) => row.position === position)) ||
    byLayer.find((row) => row.name === kept) ||
    (head !== null && byHead.find((row) => row.head === head)) ||
    byLayer.find(({ part }) => part?.layer === layer && part.kind === "attn");
  const told = hover ?? chosen;
  const bars = (rows: Row[], axis: string, label: string, at: number, onSelect: (row: Row) => void) => (
    <Bars
      bars={rows}
      width={size}
      labels={labels}
      axis={axis}
      label={label}
      words={(value) => signed(value, 3)}
      selected={at < 0 ? null : at}
      onSelect={(i) => onSelect(rows[i]!)}
      onHover={(i) => setHover(i === null ? null : rows[i]!)}
    />
  );

  return (
    <Frame
      name="residual"
      title={traits.title}
      about={
        <>
          Each bar is what a part of the model writes straight to <b>{measured}</b>, with the final norm's scale held;
          all of them add up to the total. It is <b>the direct path only</b>: what a part does through later layers is
          not in its bar. So a long bar is a hypothesis, not a causal effect: patch or ablate to test it.
        </>
      }
      controls={
        <>
          {n > 1 && (
            <PromptChooser
              {...{ n, prompt }}
              names={traits.prompts}
              onChange={(next) => set({ prompt: next, position: null })}
            />
          )}
          <Choice label="bars by" value={sort} options={["layer", "size"]} onChange={(next) => set({ sort: next })} />
        </>
      }
      status={
        <>
          {told ? (
            <>
              {told.name}: <b>{Number.isNaN(told.value) ? "no such part" : signed(told.value, 4)}</b> logits
              {told.low !== undefined &&
                !Number.isNaN(told.low) &&
                ` (95 % interval ${signed(told.low, 4)} … ${signed(told.high!, 4)})`}
              , {prompt === null ? `mean over ${count(n)} prompts` : `prompt ${prompt}`}
              {hover && <small> pointed at</small>}
            </>
          ) : (
            "…"
          )}
        </>
      }
    >
      <div class="iw-residual-columns">
        <div style={px({ width: size })}>
          <strong>By layer</strong>{" "}
          <small>
            {sort === "layer" && "each begins where the last one ended; heads that add lie above those that take away"}
          </small>
          {bars(
            byLayer,
            "contribution (logits)",
            "Parts of the model. Arrow keys move; an attention layer opens its heads.",
            byLayer.findIndex(({ part, name }) =>
              kept ? name === kept : part?.layer === layer && part.kind === "attn",
            ),
            ({ name, part }) => {
              setKept(part?.kind === "attn" ? null : name);
              if (part) set({ layer: part.layer, head: null, position: null });
            },
          )}
        </div>
        <div style={px({ width: size })}>
          <strong>Heads of layer {layer}</strong>
          {byHead.length > 0 ? (
            bars(
              byHead,
              "contribution (logits)",
              `Heads of layer ${layer}. Arrow keys move; a head opens its source tokens.`,
              byHead.findIndex((row) => row.head !== undefined && row.head === head),
              (row) => {
                setKept(null);
                set({ head: row.head ?? null, position: null });
              },
            )
          ) : (
            <p>
              {sized(keys.heads, heads + 1)
                ? "This layer has no heads that can be told apart."
                : missing(tiles.error(keys.heads))}
            </p>
          )}
        </div>
        <div style={px({ width: size })}>
          <strong>{head === null ? "Source tokens" : `Layer ${layer}, head ${head}: by source token`}</strong>
          {head === null ? (
            <p>Choose a head to see from which tokens it carried what it writes.</p>
          ) : prompt === null ? (
            <p>
              Source tokens are those of one prompt:{" "}
              <button type="button" onClick={() => set({ prompt: 0 })}>
                show prompt 0
              </button>
            </p>
          ) : sources ? (
            bars(
              bySource,
              "attention × value, read by the logits (logits)",
              "Source tokens. Arrow keys move.",
              bySource.findIndex((row) => row.position !== undefined && row.position === position),
              (row) => row.position !== undefined && set({ position: row.position }),
            )
          ) : (
            <p>{missing(tiles.error(keys.sources))}</p>
          )}
        </div>
      </div>
    </Frame>
  );
}

function PromptChooser({
  n,
  prompt,
  names,
  onChange,
}: {
  n: number;
  prompt: number | null;
  names: string[];
  onChange: (prompt: number | null) => void;
}) {
  const mean: [number, string] = [-1, `mean over ${count(n)} prompts`];
  if (n <= names.length)
    return (
      <Select
        label="prompt"
        value={prompt ?? -1}
        options={[mean, ...names.map((name, i) => [i, name] as [number, string])]}
        onChange={(next) => onChange(next < 0 ? null : next)}
      />
    );
  return (
    <>
      <button type="button" aria-pressed={prompt === null} onClick={() => onChange(null)}>
        {mean[1]}
      </button>
      <label>
        prompt{" "}
        <input
          type="number"
          min={0}
          max={n - 1}
          value={prompt ?? ""}
          onChange={({ currentTarget: { valueAsNumber: next } }) => next >= 0 && next < n && onChange(next)}
        />
      </label>
    </>
  );
}

/** A row of a tile of (value, low, high). */
function row(tile: Tile, i: number): Pick<Bar, "value" | "low" | "high"> {
  const [value, low, high] = (tile.data as Float32Array).subarray(3 * i, 3 * i + 3);
  return { value: value!, low: low!, high: high! };
}

function layerRows(
  tile: Tile | undefined,
  parts: Tile | undefined,
  layers: number,
  heads: number,
  sort: string,
): Row[] {
  if (!tile) return [];
  const found: Row[] = [{ name: "embedding", label: "embed", ...row(tile, 0) }];
  for (let layer = 0; layer < layers; layer++)
    for (const [j, kind] of (["attn", "mlp"] as const).entries()) {
      const within = kind === "attn" && parts && (parts.data as Float32Array).subarray(layer * (heads + 1), (layer + 1) * (heads + 1)); // prettier-ignore
      found.push({
        name: `${kind === "attn" ? "attention" : "MLP"} of layer ${layer}`,
        label: `L${layer} ${kind}`,
        part: { layer, kind },
        opens: kind === "attn",
        ...(within && heads > 0 && { parts: Array.from(within).filter((value) => !Number.isNaN(value)) }),
        ...row(tile, 1 + 2 * layer + j),
      });
    }
  for (const [j, name] of ["rest", "constant"].entries())
    found.push({ name: name === "rest" ? "other parts" : "biases of the final norm and unembedding", label: name, ...row(tile, 2 * layers + 1 + j) }); // prettier-ignore
  const total: Row = { name: "total", label: "total", strong: true, ...row(tile, 2 * layers + 3) };
  if (sort === "size") return [...bySize(found), total];
  let end = 0;
  for (const each of found) {
    each.from = end;
    end += each.value || 0;
  }
  return [...found, total];
}

function headRows(tile: Tile | undefined, layer: number, heads: number, sort: string): Row[] {
  if (!tile) return [];
  const found: Row[] = [];
  for (let head = 0; head < heads; head++)
    found.push({ name: `layer ${layer}, head ${head}`, label: `L${layer}H${head}`, head, opens: true, ...row(tile, head) }); // prettier-ignore
  const bias = row(tile, heads);
  if (bias.value) found.push({ name: `bias of the heads' output in layer ${layer}`, label: "bias", ...bias });
  const there = found.filter(({ value }) => !Number.isNaN(value));
  return sort === "size" ? bySize(there) : there;
}

const bySize = (rows: Row[]) => rows.sort((a, b) => Math.abs(b.value || 0) - Math.abs(a.value || 0));

/** The tokens that weigh most, in the order of the text or of their size. */
function strongest(values: Float32Array | undefined, sort: string): number[] {
  const there = Array.from(values ?? [], (value, i) => [i, Math.abs(value)] as const).filter(([, size]) => !Number.isNaN(size)); // prettier-ignore
  const most = there.sort((a, b) => b[1] - a[1]).slice(0, SHOWN).map(([i]) => i); // prettier-ignore
  return sort === "size" ? most : most.sort((a, b) => a - b);
}

const missing = (error: Error | undefined) => (error ? error.message : "…");
function signed(value: number, digits: number): string {
  if (digits > 3 && value && Math.abs(value) < 1e-3) return format(value);
  const text = Math.abs(value).toFixed(digits);
  return `${Number(text) === 0 ? "" : value > 0 ? "+" : "−"}${text}`;
}

export default view(Residual);
