// The prompt as text, each token shaded by a weight; and the strongest few in order.
import { css, format, type Scale } from "../colour.ts";
import { type Line, type Prompt, type Token, useTokens } from "./attention.ts";

const WINDOW = 192; // tokens drawn at once
const PAGE = 64; // the window moves in steps, so that following a pointer redraws colours, not text

interface Props {
  prompt: Prompt;
  at: number;
  axis: "query" | "key"; // whose tokens these are
  line: Line | undefined; // a weight a token
  scale: Scale;
  active: number | null; // the token that the weights are from, or to
  marked: number | null;
  found: Set<number>;
  faded: ((token: Token | undefined, position: number) => boolean) | null;
  caption: preact.ComponentChildren;
  onHover: (position: number | null) => void;
  onSelect: (position: number) => void;
}

export function Strip({
  prompt,
  at,
  axis,
  line,
  scale,
  active,
  marked,
  found,
  faded,
  caption,
  onHover,
  onSelect,
}: Props) {
  const size = prompt.shape[axis === "query" ? 2 : 3];
  const centre = marked ?? active ?? size - 1;
  const first = Math.max(0, Math.min(size - WINDOW, PAGE * Math.floor((centre - PAGE) / PAGE)));
  const last = Math.min(size, first + WINDOW);
  const tokens = useTokens(prompt, at, axis, first, last);
  const shown = Array.from({ length: last - first }, (_, i) => first + i);
  return (
    <div class="iw-strip">
      <div class="iw-caption">{caption}</div>
      <div class="iw-tokens" onMouseLeave={() => onHover(null)}>
        {first > 0 && <small>… {first.toLocaleString()} before </small>}
        {shown.map((i) => {
          const token = tokens.at(i);
          const weight = line?.weights[i];
          const classes = [
            i === active && "iw-active",
            i === marked && "iw-marked",
            found.has(i) && "iw-found",
            faded?.(token, i) && "iw-faded",
          ];
          return (
            <span
              class={classes.filter(Boolean).join(" ")}
              style={weight === undefined || Number.isNaN(weight) ? {} : css(scale, weight)}
              key={i}
              title={`${token?.text ?? "…"} · position ${i}${token?.id === undefined ? "" : ` · id ${token.id}`}${weight === undefined ? "" : ` · ${format(weight)}`}`}
              onMouseEnter={() => onHover(i)}
              onClick={() => onSelect(i)}
            >
              <bdi>{token?.text ?? "…"}</bdi>
            </span>
          );
        })}
        {last < size && <small> … {(size - last).toLocaleString()} after</small>}
      </div>
    </div>
  );
}

/** The strongest weights of a line, as buttons: all there is to see of a long one, and a list for a screen reader. */
export function Strongest({
  prompt,
  at,
  axis,
  line,
  missing,
  onSelect,
}: {
  prompt: Prompt;
  at: number;
  axis: "query" | "key";
  line: Line | undefined;
  missing: boolean;
  onSelect: (position: number) => void;
}) {
  const top = strongest(line?.weights ?? new Float32Array(), 6);
  return (
    <div class="iw-strongest">
      strongest:{" "}
      {top.map((i) => (
        <button type="button" onClick={() => onSelect(i)}>
          <One prompt={prompt} at={at} axis={axis} position={i} /> {line!.error > 0 && "≈ "}
          {format(line!.weights[i]!)}
        </button>
      ))}
      {!line && (missing ? "not stored in this copy" : "…")}
    </div>
  );
}

/** One token in running text: its text and position. */
export function One({
  prompt,
  at,
  axis,
  position,
}: {
  prompt: Prompt;
  at: number;
  axis: "query" | "key";
  position: number;
}) {
  const token = useTokens(prompt, at, axis, position, position + 1).at(position);
  return (
    <>
      <bdi class="iw-token">{token?.text ?? "…"}</bdi>
      <sub>{position}</sub>
    </>
  );
}

function strongest(line: Float32Array, count: number): number[] {
  const top: number[] = [];
  line.forEach((weight, i) => {
    if (!(Math.abs(weight) > 0)) return;
    if (top.length === count && Math.abs(weight) <= Math.abs(line[top[count - 1]!]!)) return;
    const place = top.findIndex((j) => Math.abs(line[j]!) < Math.abs(weight));
    top.splice(place < 0 ? top.length : place, 0, i);
    if (top.length > count) top.pop();
  });
  return top;
}
