// The weight under the cursor, exact, in words; and whether anyone computes.
import { format } from "../colour.ts";
import { useSilence } from "../view.tsx";
import { type Cell, type Panel, type Prompt, type Traits, useLine } from "./attention.ts";
import { One } from "./strip.tsx";

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
}) {
  const { query, key } = cell;
  const both = query !== undefined && key !== undefined;
  const { line, missing } = useLine(prompt, panel, "query", query ?? null);
  const silent = useSilence();
  const number = () => {
    const weight = line?.weights[key!];
    if (weight === undefined || (line!.error && Number.isNaN(weight))) return missing ? "not stored in this copy" : "…";
    if (!line!.error) return <b>{format(weight)}</b>;
    return (
      <span title="Read off the picture; the exact weight is not here">
        ≈ {format(weight)} ± {(100 * line!.error).toFixed(0)} %
      </span>
    );
  };
  const token = (axis: "query" | "key", position: number) => (
    <One prompt={prompt} at={panel.prompt} axis={axis} position={position} />
  );
  return (
    <div class="iw-status" role="status">
      {query === undefined &&
        key === undefined &&
        "Hover a weight or a token; click to keep it. Arrow keys move, + and − zoom."}
      {both && (
        <>
          query {token("query", query)} → key {token("key", key)}:{" "}
          {prompt.causal && key > query ? "masked (a later token)" : number()}
        </>
      )}
      {query !== undefined && key === undefined && <>query {token("query", query)}</>}
      {key !== undefined && query === undefined && <>key {token("key", key)}</>}
      {both && locked && <small> selected</small>}
      {!traits._live && <small class="iw-live"> saved copy: nothing is computed here</small>}
      {traits._live && silent && (
        <small class="iw-live">
          {" "}
          not live: Python does not answer (busy, or no kernel). Shown is what came with the view.
        </small>
      )}
    </div>
  );
}
