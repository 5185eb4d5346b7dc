// The strip of one panel: its tokens with the weights from one query, or to one key.
import type { Scale } from "../colour.ts";
import { type Cell, type Panel, type Token, type Traits, useLine } from "./attention.ts";
import { One, Strip, Strongest } from "./strip.tsx";

export type Hover = { query?: number; key?: number } | null;

export function Line({
  traits,
  panel,
  scale,
  active,
  fallback,
  cell,
  faded,
  found,
  onHover,
  onSelect,
}: {
  traits: Traits;
  panel: Panel;
  scale: Scale;
  active: number;
  fallback: boolean;
  cell: Partial<Cell>;
  faded: ((token: Token | undefined, position: number) => boolean) | null;
  found: Set<number>;
  onHover: (hover: Hover) => void;
  onSelect: (cell: { query?: number; key?: number }) => void;
}) {
  const prompt = traits.prompts[panel.prompt]!;
  const { direction } = traits;
  const other = direction === "query" ? "key" : "query";
  const at = Math.min(active, prompt.shape[direction === "query" ? 2 : 3] - 1);
  const { line, missing } = useLine(prompt, panel, direction, at);
  const from = <One prompt={prompt} at={panel.prompt} axis={direction} position={at} />;
  const caption = (
    <>
      {traits.prompts.length > 1 && <b>{prompt.name}: </b>}
      {direction === "query" ? <>what query {from} attends to</> : <>which queries attend to key {from}</>}
      {line?.sampled &&
        ` (${line.sampled[0].toLocaleString()} of ${line.sampled[1].toLocaleString()} queries looked at)`}
      {fallback && " (hover or click another)"}
      <Strongest
        prompt={prompt}
        at={panel.prompt}
        axis={other}
        line={line}
        missing={missing}
        onSelect={(i) => onSelect({ [direction]: at, [other]: i })}
      />
    </>
  );
  const shared = { prompt, at: panel.prompt, scale, faded };
  if (prompt.same)
    return (
      <Strip {...shared} axis={other} line={line} active={at} marked={cell[other] ?? null} found={found} caption={caption} onHover={(i) => onHover(i === null ? null : { [direction]: i })} onSelect={(i) => onSelect({ [direction]: i })} /> // prettier-ignore
    );
  return (
    <>
      <Strip
        {...shared}
        axis={direction}
        line={undefined}
        active={at}
        marked={null}
        found={found}
        caption={direction === "query" ? "queries" : "keys"}
        onHover={(i) => onHover(i === null ? null : { [direction]: i })}
        onSelect={(i) => onSelect({ [direction]: i })}
      />{" "}
      {/* prettier-ignore */}
      <Strip {...shared} axis={other} line={line} active={null} marked={cell[other] ?? null} found={new Set()} caption={caption} onHover={(i) => onHover(i === null ? null : { [direction]: at, [other]: i })} onSelect={(i) => onSelect({ [direction]: at, [other]: i })} />{" "}
      {/* prettier-ignore */}
    </>
  );
}
