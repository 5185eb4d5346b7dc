// The strip of one panel: its tokens with the weights from one query, or to one key.
import { count, type Scale } from "../colour.ts";
import { type Panel, type Traits, useLine, useTokens } from "./attention.ts";
import { activeOf, type Hover, type Pointer, usePointer } from "./pointer.ts";
import { useSteady } from "./state.ts";
import { Strip, Strongest } from "./strip.tsx";
import { One, type Token } from "./token.tsx";

const NONE = new Set<number>();

export function Line({
  traits,
  panel,
  scale,
  pointer,
  faded,
  found,
  onSelect,
}: {
  traits: Traits;
  panel: Panel;
  scale: Scale;
  pointer: Pointer;
  faded: ((token: Token | undefined, position: number) => boolean) | null;
  found: Set<number>;
  onSelect: (cell: { query?: number; key?: number }) => void;
}) {
  const prompt = traits.prompts[panel.prompt]!;
  const { direction } = traits;
  const other = direction === "query" ? "key" : "query";
  const pointed = usePointer(pointer, traits).cell;
  const own = activeOf(pointed, direction, traits.prompts[traits.prompt]!.shape[2]);
  const asked = Math.min(own.active, prompt.shape[direction === "query" ? 2 : 3] - 1);
  const weights = useLine(prompt, panel, direction, asked);
  const { cell, fallback, at, line, missing } = useSteady(
    { cell: pointed, fallback: own.fallback, at: asked, ...weights },
    weights.line !== undefined || weights.missing,
    JSON.stringify([panel, direction]),
  );
  const token = useTokens(prompt, panel.prompt, direction, [at])(at);
  const from = <One token={token} position={at} />;
  const caption = (
    <>
      {traits.prompts.length > 1 && <b>{prompt.name}: </b>}
      {direction === "query" ? <>what query {from} attends to</> : <>which queries attend to key {from}</>}
      {line?.sampled && ` (${count(line.sampled[0])} of ${count(line.sampled[1])} queries looked at)`}
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
  const over = (hover: Hover) => pointer.set(hover);
  const shared = { prompt, at: panel.prompt, scale, faded };
  if (prompt.same)
    return (
      <Strip {...shared} axis={other} line={line} active={at} marked={cell[other] ?? null} found={found} caption={caption} onHover={(i) => over(i === null ? null : { [direction]: i })} onSelect={(i) => onSelect({ [direction]: i })} /> // prettier-ignore
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
        onHover={(i) => over(i === null ? null : { [direction]: i })}
        onSelect={(i) => onSelect({ [direction]: i })}
      />{" "}
      {/* prettier-ignore */}
      <Strip {...shared} axis={other} line={line} active={null} marked={cell[other] ?? null} found={NONE} caption={caption} onHover={(i) => over(i === null ? null : { [direction]: at, [other]: i })} onSelect={(i) => onSelect({ [direction]: at, [other]: i })} />{" "}
      {/* prettier-ignore */}
    </>
  );
}
