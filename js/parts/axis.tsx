// Tokens along a side of the matrix: all of them where there is room, else a few positions.
import { count } from "../colour.ts";
import { px } from "../view.tsx";
import { type Pointer, type Selected, usePointer } from "./pointer.ts";
import type { Token } from "./token.tsx";

const ROOM = { query: 13, key: 13 }; // CSS pixels a label needs

export function Axis({
  axis,
  first,
  last,
  size,
  at,
  pointer,
  selected,
}: {
  axis: "query" | "key";
  first: number;
  last: number;
  size: number;
  at: (position: number) => Token | undefined;
  pointer: Pointer;
  selected: Selected;
}) {
  const marked = usePointer(pointer, selected).cell[axis];
  const cell = size / (last - first);
  const named = cell >= ROOM[axis];
  const step = named ? 1 : nice((ROOM[axis] * 4) / cell);
  const positions = [];
  for (let i = Math.max(0, Math.ceil(first / step - 0.5)) * step; i < last; i += step)
    if (i + 0.5 >= first) positions.push(i);
  const label = (i: number) => {
    const token = at(i);
    return (
      <span
        class={`iw-tick${i === marked ? " iw-marked" : ""}`}
        style={px({ [axis === "query" ? "top" : "left"]: (i + 0.5 - first) * cell })}
        title={token && `${token.text} · position ${i}${token.id === undefined ? "" : ` · id ${token.id}`}`}
      >
        <bdi>{named ? (token?.text ?? i) : count(i)}</bdi>
      </span>
    );
  };
  const showMarked = !named && marked !== undefined && marked >= first && marked < last && !positions.includes(marked);
  return (
    <div
      class={`iw-axis iw-axis-${axis}${named ? "" : " iw-numbered"}`}
      style={px({ [axis === "query" ? "height" : "width"]: size })}
      aria-hidden="true"
    >
      <i>{axis === "query" ? "query: the token that looks ↓" : "key: the token looked at →"}</i>
      {positions.filter((i) => !showMarked || Math.abs(i - marked) * cell > ROOM[axis]).map(label)}
      {showMarked && label(marked)}
    </div>
  );
}

/** The least of 1, 2, 5, 10, 20, … that is enough. */
export function nice(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return Math.max(1, [1, 2, 5, 10].find((factor) => factor * power >= least)! * power);
}
