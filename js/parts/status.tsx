// The weight under the cursor, exact, in words; and whether anyone computes.
import { bound, decode, format } from "../colour.ts";
import { useSilence, useTiles } from "../view.tsx";
import { type Cell, keys, type Panel, type Prompt, type Traits, useLine } from "./attention.ts";
import { One } from "./strip.tsx";

const SIDE = 256;

export function Status({
  traits,
  prompt,
  panel,
  cell,
  locked,
}: {
  traits: Traits;
  prompt: Prompt;
  panel: Panel;
  cell: Partial<Cell>;
  locked: boolean;
}) /* prettier-ignore */ {
  const { query, key } = cell;
  const both = query !== undefined && key !== undefined;
  const { line, errors } = useLine(prompt, panel, "query", query ?? null);
  const silent = useSilence();
  const square = both ? keys.image(panel, "max", 0, Math.floor(query / SIDE), Math.floor(key / SIDE)) : "";
  const { get } = useTiles([]);
  const coded = both && !line ? get(square) : undefined;
  const number = () => {
    if (line) return <b>{format(line[key!]!)}</b>;
    if (!coded) return errors.length ? "not stored" : "…";
    const value = decode(coded, coded.data[(query! % SIDE) * coded.shape[1]! + (key! % SIDE)]!);
    return <span title="From the picture; the exact weight is not here">≈ {format(value)} ± {(100 * bound(coded)).toFixed(0)} %</span>; // prettier-ignore
  };
  const token = (axis: "query" | "key", position: number) => (
    <One prompt={prompt} at={panel.prompt} axis={axis} position={position} />
  );
  return (
    <div class="iw-status" role="status">
      {query === undefined && key === undefined && "Hover a weight or a token; click to keep it. Arrow keys move, + and − zoom."}
      {both && <>query {token("query", query)} → key {token("key", key)}: {prompt.causal && key > query ? "masked (a later token)" : number()}</>}
      {query !== undefined && key === undefined && <>query {token("query", query)}</>}
      {key !== undefined && query === undefined && <>key {token("key", key)}</>}
      {both && locked && <small> selected</small>}
      {!traits._live && <small class="iw-live"> saved copy: nothing is computed here</small>}
      {traits._live && silent && <small class="iw-live"> not live: Python does not answer (busy, or no kernel). Shown is what came with the view.</small>}
    </div>
  );
}
