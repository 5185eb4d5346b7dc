// The weight under the cursor, exact, in words.
import { format } from "../colour.ts";
import { type Panel, type Prompt, type Traits, useLine, useTokens } from "./attention.ts";
import { Live } from "./live.tsx";
import { type Pointer, usePointer } from "./pointer.ts";
import { One } from "./token.tsx";

export function Status({
  traits,
  prompt,
  panel,
  pointer,
}: {
  traits: Traits;
  prompt: Prompt;
  panel: Panel;
  pointer: Pointer;
}) {
  const { cell, hovered } = usePointer(pointer, traits);
  const { query, key } = cell;
  const both = query !== undefined && key !== undefined;
  const { line, missing } = useLine(prompt, panel, "query", query ?? null);
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
  const queries = useTokens(prompt, panel.prompt, "query", query === undefined ? [] : [query]);
  const nKeys = useTokens(prompt, panel.prompt, "key", key === undefined ? [] : [key]);
  const token = (axis: "query" | "key", position: number) => (
    <One token={(axis === "query" ? queries : nKeys)(position)} position={position} />
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
      {both && !hovered && <small> selected</small>}
      <Live />
    </div>
  );
}
